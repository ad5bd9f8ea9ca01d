"""Helpers for training: clipping of gradients, and all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..checks import at_least
from ..functions import Tensor, clip, concat, float32, no_grad, norm, stack, tensor
from .recompute import recompute

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "recompute",
    "vector_to_parameters",
]


def _with_gradients(op: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    found = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in found:
        if not isinstance(p, Tensor):
            raise TypeError(f"[{op}] expected tensors, as model.parameters() gives, got {type(p).__name__}")
    return [p for p in found if p.grad is not None]


@no_grad()
def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all elements of some tensors, as if they were one vector.

    Args:
        tensors: any number of them.
        norm_type: which norm, see `corten.norm`; `math.inf` is the largest absolute value.
        error_if_nonfinite: raise if the norm is NaN or infinite.

    Returns:
        a tensor of one element, in the dtype (float32 for 16-bit ones) and on the device of the first tensor.

    Raises:
        RuntimeError: the norm is not finite, if this is asked for.

    The norms of the tensors are taken one after the other, and then their norm: the result does not depend on the
    number of threads.

    >>> import corten as ct
    >>> ct.nn.utils.get_total_norm([ct.tensor([3.0]), ct.tensor([[4.0]])]).item()
    5.0
    """
    given = list(tensors)
    if not given:
        return tensor(0.0)
    # In 16 bits a sum of squares would soon be infinite.
    dtype, device = given[0].dtype if given[0].dtype.itemsize > 2 else float32, given[0].device
    wide = [t if t.dtype.itemsize > 2 else t.astype(float32) for t in given if t.size]
    norms = [norm(t, norm_type).astype(dtype).to(device) for t in wide]
    total = norm(stack(norms), norm_type) if norms else tensor(0.0, dtype=dtype, device=device)
    if error_if_nonfinite and not math.isfinite(float(total.item())):
        raise RuntimeError(
            f"[get_total_norm] the norm of the gradients is {total.item()}, so they cannot be scaled; "
            "error_if_nonfinite=False goes on"
        )
    return total


@no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients so that the norm of all of them together is at most `max_norm`.

    `g <- g * min(1, max_norm / (norm + 1e-6))` with the norm over all elements of all gradients, as if they were one
    vector. To be called between `backward()` and `optimizer.step()`.

    Args:
        parameters: tensors, as `model.parameters()` gives; those without gradient do not count.
        max_norm: the largest norm that is left as it is.
        norm_type: which norm, see `corten.norm`; `math.inf` is the largest absolute value.
        error_if_nonfinite: raise if the norm is NaN or infinite, before anything is scaled.

    Returns:
        the norm before scaling.

    Raises:
        ValueError: max_norm is negative.
        RuntimeError: the norm is not finite, if this is asked for.

    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
    arXiv:1211.5063.

    >>> import corten as ct
    >>> x = ct.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> ct.nn.utils.clip_grad_norm_([x], 1.0).item(), [round(g, 4) for g in x.grad.tolist()]
    (5.0, [0.6, 0.8])
    """
    at_least("[clip_grad_norm_] max_norm", max_norm)
    params = _with_gradients("clip_grad_norm_", parameters)
    grads = [p.grad.detach() for p in params if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    factor = max_norm / (float(total.item()) + 1e-6)
    # Not `factor < 1`: a NaN has to reach the gradients, where it is seen.
    if not factor >= 1.0:
        for p, g in zip(params, grads, strict=True):
            p.grad = g * factor
    return total


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Cut off every element of the gradients at `-clip_value` and `clip_value`.

    Args:
        parameters: tensors, as `model.parameters()` gives; those without gradient do not count.
        clip_value: the largest absolute value.

    Raises:
        ValueError: clip_value is negative.

    >>> import corten as ct
    >>> x = ct.tensor([3.0, -4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> ct.nn.utils.clip_grad_value_([x], 7.0)
    >>> x.grad.tolist()
    [6.0, -7.0]
    """
    at_least("[clip_grad_value_] clip_value", clip_value)
    for p in _with_gradients("clip_grad_value_", parameters):
        if p.grad is not None:
            p.grad = clip(p.grad.detach(), -clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened, as one vector.

    >>> import corten as ct
    >>> ct.nn.utils.parameters_to_vector(ct.nn.Linear(3, 2).parameters()).shape
    (8,)
    """
    return concat([p.flatten() for p in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the parts of a vector to the parameters, in their order: the inverse of `parameters_to_vector`.

    Raises:
        ValueError: the vector has another number of elements; then nothing is written.

    >>> import corten as ct
    >>> layer = ct.nn.Linear(2, 1)
    >>> ct.nn.utils.vector_to_parameters(ct.tensor([1.0, 2.0, 3.0]), layer.parameters())
    >>> layer.weight.tolist(), layer.bias.tolist()
    ([[1.0, 2.0]], [3.0])
    """
    params = list(parameters)
    count = sum(p.size for p in params)
    if vec.shape != (count,):
        raise ValueError(f"[vector_to_parameters] the parameters have {count} elements, the vector shape {vec.shape}")
    start = 0
    for p in params:
        p.assign_(vec[start : start + p.size].reshape(p.shape))
        start += p.size
