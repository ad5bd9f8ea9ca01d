"""Parameters: the tensors that a module learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..functions import Tensor, asarray

__all__ = ["Parameter", "is_parameter"]


def is_parameter(value: object) -> bool:
    """True if `value` is a tensor that was made by `Parameter`."""
    return isinstance(value, Tensor) and value.is_parameter


class _ParameterType(type):
    """Makes `Parameter(data)` return a marked tensor, and `isinstance(x, Parameter)` ask for the mark.

    Tensor is a final class of the compiled core, so a parameter is not an object of a subclass: it is a tensor with a
    mark on it. The mark stays when the parameter is frozen with `requires_grad_(False)`, and no result of an
    operation carries it.
    """

    def __call__(cls, data: Any, requires_grad: bool = True) -> Tensor:
        parameter = asarray(data)._to_leaf(requires_grad)
        parameter._mark_parameter()
        return parameter

    def __instancecheck__(cls, instance: object) -> bool:
        return is_parameter(instance)


if TYPE_CHECKING:
    Parameter: _ParameterType  # a class whose objects are tensors: no type checker follows that by itself
else:

    class Parameter(metaclass=_ParameterType):
        """A leaf tensor that a `Module` finds when it is set as an attribute.

        `Parameter(data, requires_grad=True)` gives a `Tensor` with the values of `data` (a tensor or anything that
        `corten.asarray` takes), cut off from any graph and marked as a parameter. Written to by the optimizer,
        `load_state_dict`, `assign_` and `p[i] = value`, it never changes the tensor or array that it was made from.

        Raises:
            TypeError: `data` is of an integer type, which has no gradient, and `requires_grad` is true.

        >>> import corten as ct
        >>> p = ct.nn.Parameter(ct.zeros((2, 3)))
        >>> isinstance(p, ct.nn.Parameter), isinstance(p, ct.Tensor), p.requires_grad
        (True, True, True)
        >>> isinstance(p * 2, ct.nn.Parameter)
        False
        """
