"""Operations of your own: forward and backward written in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Self

from .. import _core
from ..functions import Tensor, is_grad_enabled, no_grad, zeros

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """What `forward` and `backward` of a `Function` share: saved tensors, and any attribute that you set.

    Attributes:
        needs_input_grad: for each argument of `forward` whether its gradient is wanted.
        saved_tensors: in `backward`, what `save_for_backward` was given.
    """

    # Attributes that the user sets live in __dict__, which all backward passes of one call share. The slots belong to
    # one pass: two passes may run at once, in two threads or one inside the other.
    __slots__ = ("__dict__", "_materialize", "_non_differentiable", "_saved", "_sources", "_where", "needs_input_grad")

    needs_input_grad: tuple[bool, ...]

    def __init__(self, name: str, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Tensor | None, ...] = ()
        self._sources: tuple[Tensor, ...] = ()  # for once_differentiable: what a second derivative would go to
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize = True
        self._where = name

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`: inputs, outputs or anything in between; None is kept as None.

        Inputs and outputs that are saved this way are part of the graph when the gradient is itself differentiated.
        What lies in between is a constant there: compute it anew in `backward` if second order should see it.
        """
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(
                    f"[{self._where}] save_for_backward keeps tensors and None, got {type(tensor).__name__} (set it as "
                    f"an attribute of ctx instead)"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` was given. Tensors are values: nothing can have changed them meanwhile."""
        return self._saved

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say that these outputs of `forward` have no gradient. Integer and bool outputs have none anyway."""
        self._non_differentiable = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """With False, `backward` gets None and not zeros for an output that nothing was computed from."""
        self._materialize = value

    def _for_pass(self, saved: tuple[Tensor | None, ...], needs: tuple[bool, ...]) -> FunctionCtx:
        ctx = FunctionCtx(self._where, needs)
        ctx.__dict__ = self.__dict__
        ctx._saved = saved
        return ctx


class Function:
    """An operation with a gradient of its own. Subclass it, write `forward` and `backward`, call `apply`.

    `forward(ctx, *args)` gets the arguments of `apply`, tensors or not, and returns a tensor or a tuple of tensors. It
    runs without recording. `backward(ctx, *grads)` gets the gradient of each output and returns one gradient per
    argument of `forward`: a tensor of the argument's shape and dtype, or None for zero. For an argument that is no
    tensor it must be None. Written in operations of corten, `backward` can be differentiated again, to any order.

    Raises (from `apply` or from the backward pass, with the name of the class):
        TypeError: a result is no tensor, or a gradient has another dtype than its argument.
        ValueError: the number of gradients, or the shape of one, is wrong.
        RuntimeError: a gradient for an argument that has none.
        Exceptions of your own code come out unchanged.

    >>> import corten as ct
    >>> class Cube(ct.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return grad * 3 * x * x
    >>> x = ct.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    >>> Cube.apply(x).sum().backward()
    >>> x.grad.tolist()
    [3.0, 12.0]
    >>> ct.autograd.gradcheck(Cube.apply, x), ct.autograd.gradgradcheck(Cube.apply, x)
    (True, True)
    """

    def __new__(cls, *_: Any, **__: Any) -> Self:
        raise TypeError(f"[{cls.__name__}] a Function is not instantiated; call {cls.__name__}.apply(...)")

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the outputs; see the class."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute one gradient per argument of `forward`; see the class."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run `forward` on the arguments and record the operation. Returns what `forward` returns, in the graph."""
        name = cls.__name__
        if cls.forward is Function.forward:
            raise NotImplementedError(f"[{name}] has no static method forward(ctx, *args); write one")
        recording = is_grad_enabled()
        tensors = [(i, arg) for i, arg in enumerate(args) if isinstance(arg, Tensor)]
        ctx = FunctionCtx(name, tuple(recording and isinstance(a, Tensor) and a.requires_grad for a in args))
        with no_grad():
            result = cls.forward(ctx, *args)
        single = isinstance(result, Tensor)
        outputs: list[Tensor] = [result] if single else list(_tuple(name, "forward", result))
        for i, output in enumerate(outputs):
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"[{name}] forward must return a tensor or a tuple of tensors, but output {i} is "
                    f"{type(output).__name__}"
                )
        fixed = {id(t) for t in ctx._non_differentiable}
        strangers = fixed - {id(output) for output in outputs}
        if strangers:
            raise ValueError(f"[{name}] mark_non_differentiable was given a tensor that forward does not return")
        kept = [t for t in ctx._saved if t is not None]
        if getattr(cls.backward, "_once", False):
            kept += [tensor for _, tensor in tensors if tensor.requires_grad]
        places = [t is not None for t in ctx._saved]
        made = _core._record(
            name,
            [tensor for _, tensor in tensors],
            outputs,
            [output.dtype.is_floating_point and id(output) not in fixed for output in outputs],
            kept,
            _Backward(cls, ctx, args, outputs, places),
        )
        ctx._saved = ()
        ctx._non_differentiable = ()
        return made[0] if single else tuple(made)


class _Backward:
    """Calls `backward` of a Function for the engine, and checks what it gives."""

    __slots__ = ("args", "cls", "ctx", "outputs", "places", "size")

    def __init__(
        self, cls: type[Function], ctx: FunctionCtx, args: Sequence[Any], outputs: Sequence[Tensor], places: list[bool]
    ) -> None:
        # Only what is needed to check and to make zeros: neither arguments nor outputs are kept alive.
        self.cls = cls
        self.ctx = ctx
        self.places = places
        self.size = len(args)
        self.args = {i: (a.shape, a.dtype, a.device) for i, a in enumerate(args) if isinstance(a, Tensor)}
        self.outputs = [(o.shape, o.dtype, o.device) for o in outputs]

    def __call__(
        self, saved: tuple[Tensor, ...], grads: tuple[Tensor | None, ...], needs: tuple[bool, ...]
    ) -> list[Tensor | None]:
        name = self.cls.__name__
        if self.cls.backward is Function.backward:
            raise NotImplementedError(f"[{name}] has no static method backward(ctx, *grads); write one")
        queue = iter(saved)
        wanted = dict(zip(self.args, needs, strict=True))
        ctx = self.ctx._for_pass(
            tuple(next(queue) if there else None for there in self.places),
            tuple(wanted.get(i, False) for i in range(self.size)),
        )
        ctx._sources = tuple(queue)
        given: list[Tensor | None] = list(grads)
        if self.ctx._materialize:
            for i, (shape, dtype, device) in enumerate(self.outputs):
                if given[i] is None and dtype.is_floating_point:
                    given[i] = zeros(shape, dtype=dtype, device=device)
        result = self.cls.backward(ctx, *given)
        if result is None or isinstance(result, Tensor):
            result = (result,)
        result = _tuple(name, "backward", result)
        if len(result) != self.size:
            raise ValueError(
                f"[{name}] backward must return one gradient per argument of forward, {self.size} in all (None for "
                f"those without), got {len(result)}"
            )
        for i, gradient in enumerate(result):
            if gradient is not None:
                self._check(name, i, gradient, wanted.get(i, False))
        return [result[i] if wanted[i] else None for i in self.args]

    def _check(self, name: str, i: int, gradient: Any, wanted: bool) -> None:
        if not isinstance(gradient, Tensor):
            raise TypeError(
                f"[{name}] backward must return tensors and None, but gradient {i} is {type(gradient).__name__}"
            )
        if i not in self.args:
            raise RuntimeError(
                f"[{name}] backward must return None as gradient {i}: argument {i} of forward was no tensor"
            )
        if not wanted:
            return  # nobody looks at it
        shape, dtype, device = self.args[i]
        if gradient.shape != shape:
            hint = " (sum over the axes that forward broadcast)" if gradient.size > _size(shape) else ""
            raise ValueError(
                f"[{name}] gradient {i} must have the shape {shape} of argument {i} of forward, got {gradient.shape}"
                f"{hint}"
            )
        if gradient.dtype != dtype:
            raise TypeError(
                f"[{name}] gradient {i} must have the dtype {dtype.name} of argument {i} of forward, got "
                f"{gradient.dtype.name} (use .astype('{dtype.name}'))"
            )
        if gradient.device != device:
            raise ValueError(
                f"[{name}] gradient {i} must be on the device {device!r} of argument {i} of forward, got "
                f"{gradient.device!r}"
            )


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _tuple(name: str, method: str, result: Any) -> tuple[Any, ...]:
    if isinstance(result, tuple | list):
        return tuple(result)
    raise TypeError(
        f"[{name}] {method} must return a tensor or a tuple of tensors, got {type(result).__name__}"
        + (" (is there a return?)" if result is None else "")
    )


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `backward` that cannot be differentiated again, for instance because it computes with NumPy.

    Without the mark, second derivatives would silently lack what `backward` does outside of corten; with it they raise.
    It goes below `@staticmethod`.

    >>> import corten as ct
    >>> import numpy as np
    >>> class Exp(ct.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.y = ct.tensor(np.exp(x.detach().numpy()))
    ...         return ctx.y
    ...     @staticmethod
    ...     @ct.autograd.once_differentiable
    ...     def backward(ctx, grad):
    ...         return ct.tensor(grad.numpy() * ctx.y.numpy())
    >>> x = ct.tensor(0.0, requires_grad=True)
    >>> g = ct.grad(Exp.apply(x), x, create_graph=True)
    >>> g.item()
    1.0
    >>> ct.grad(g, x)
    Traceback (most recent call last):
        ...
    RuntimeError: [Exp] its backward is marked once_differentiable: it has no second derivative
    """

    @wraps(backward)
    def wrapped(ctx: FunctionCtx, *grads: Any) -> Any:
        if not is_grad_enabled():
            return backward(ctx, *grads)
        with no_grad():
            # Detached, so that the values can go to NumPy.
            plain = FunctionCtx(ctx._where, ctx.needs_input_grad)
            plain.__dict__ = ctx.__dict__
            plain._saved = tuple(None if t is None else t.detach() for t in ctx._saved)
            result = backward(plain, *(None if g is None else g.detach() for g in grads))
        single = not isinstance(result, tuple | list)
        results = [result] if single else list(result)
        sources = [t for t in (*grads, *ctx._sources) if isinstance(t, Tensor) and t.requires_grad]
        at = [i for i, r in enumerate(results) if isinstance(r, Tensor) and r.dtype.is_floating_point]
        if sources and at:
            name = ctx._where

            def refuse(*_: Any) -> Any:
                raise RuntimeError(f"[{name}] its backward is marked once_differentiable: it has no second derivative")

            made = _core._record(name, sources, [results[i] for i in at], [True] * len(at), [], refuse)
            for i, tensor in zip(at, made, strict=True):
                results[i] = tensor
        return results[0] if single else tuple(results)

    wrapped._once = True  # type: ignore[attr-defined]
    return wrapped
