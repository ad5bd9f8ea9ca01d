"""Derivatives of functions: vjp, jvp, jacobian, hessian, hvp, value_and_grad."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import _core
from ..functions import Tensor, enable_grad, is_grad_enabled, stack, zeros, zeros_like

__all__ = ["hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]


# -- structures: tuples, lists and dicts of tensors, nested as you like


def _flatten(op: str, what: str, tree: Any, out: list[Tensor]) -> Any:
    """Append the tensors of `tree` to `out`; returns the tree with their numbers in place of them."""
    if isinstance(tree, Tensor):
        out.append(tree)
        return len(out) - 1
    if isinstance(tree, dict):
        return {key: _flatten(op, what, value, out) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_flatten(op, what, value, out) for value in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(_flatten(op, what, value, out) for value in tree)
    raise TypeError(f"[{op}] {what} must be tensors, or tuples, lists or dicts of them, got {type(tree).__name__}")


def _fill(tree: Any, values: Sequence[Any]) -> Any:
    """The inverse of `_flatten`."""
    if isinstance(tree, int):
        return values[tree]
    if isinstance(tree, dict):
        return {key: _fill(value, values) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_fill(value, values) for value in tree))
    return type(tree)(_fill(value, values) for value in tree)


# -- running a function on inputs of its own


class _Depth(threading.local):
    value = 0


_depth = _Depth()


def _recorded(create_graph: bool | None) -> bool:
    """Whether derivatives are recorded: as asked, else inside a function that is being differentiated itself."""
    if create_graph is None:
        return _depth.value > 0 and is_grad_enabled()
    return bool(create_graph)


@contextmanager
def _differentiating() -> Iterator[None]:
    _depth.value += 1
    try:
        with enable_grad():
            yield
    finally:
        _depth.value -= 1


def _own(op: str, x: Tensor) -> Tensor:
    """A tensor of the same values to differentiate with respect to; in the graph of `x` if that has one."""
    if not x.dtype.is_floating_point:
        raise TypeError(f"[{op}] inputs must be float tensors, got {x.dtype.name} (close over constants instead)")
    return x.clone() if x.requires_grad else x.detach().requires_grad_()


class _Run:
    """One call of `fn` on own copies of the inputs: flat inputs, flat outputs and their structures."""

    def __init__(self, op: str, fn: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        self.op = op
        flat: list[Tensor] = []
        self.inputs_tree = _flatten(op, "inputs", inputs, flat)
        if not flat:
            raise ValueError(f"[{op}] there is no input to differentiate with respect to")
        with _differentiating():
            self.inputs = [_own(op, x) for x in flat]
            result = fn(*_fill(self.inputs_tree, self.inputs))
        self.outputs: list[Tensor] = []
        self.outputs_tree = _flatten(op, "outputs", result, self.outputs)

    def pull(self, cotangents: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
        """Gradients of the inputs for gradients of the outputs; zeros where nothing depends on an input."""
        pairs = [(y, g) for y, g in zip(self.outputs, cotangents, strict=True) if y.requires_grad]
        found: list[Tensor | None] = [None] * len(self.inputs)
        if pairs:
            found = _core.grad(
                [y for y, _ in pairs],
                self.inputs,
                [g for _, g in pairs],
                retain_graph=True,
                create_graph=create_graph,
                allow_unused=True,
            )
        return [zeros_like(x.detach()) if g is None else g for g, x in zip(found, self.inputs, strict=True)]

    def result(self, recorded: bool) -> Any:
        """The outputs in their structure."""
        return _fill(self.outputs_tree, self.outputs if recorded else [y.detach() for y in self.outputs])

    def like(self, what: str, tree: Any, models: Sequence[Tensor], shape: Any) -> list[Tensor]:
        """The tensors of `tree`, which must have the structure and the shapes of `models`."""
        flat: list[Tensor] = []
        if _flatten(self.op, what, tree, flat) != shape:
            raise ValueError(f"[{self.op}] {what} must have the structure of what they belong to")
        for i, (t, m) in enumerate(zip(flat, models, strict=True)):
            if t.shape != m.shape or t.dtype != m.dtype:
                raise ValueError(
                    f"[{self.op}] {what} {i} must have shape {m.shape} and dtype {m.dtype.name}, got {t.shape} and "
                    f"{t.dtype.name}"
                )
        return flat

    def scalar(self) -> Tensor:
        """The only output, of one element."""
        if self.outputs_tree != 0 or self.outputs[0].size != 1:
            shapes = ", ".join(str(y.shape) for y in self.outputs)
            raise ValueError(
                f"[{self.op}] fn must return one tensor of one element, got {shapes} (did you mean .sum() or .mean()?)"
            )
        return self.outputs[0]


def _wrapped(inputs: Any) -> tuple[tuple[Any, ...], bool]:
    """`inputs` as a tuple of arguments, and whether it was a single tensor."""
    single = isinstance(inputs, Tensor)
    return ((inputs,) if single else tuple(inputs)), single


# -- the transforms


def vjp(fn: Callable[..., Any], *inputs: Any, create_graph: bool | None = None) -> tuple[Any, Callable[..., Any]]:
    """Vector-Jacobian products: the outputs of `fn`, and a function that pulls gradients back to the inputs.

    `pullback(v)` gives `v^T J`, J being the Jacobian of `fn` at the inputs. It may be called as often as you like.

    Args:
        fn: a function of tensors, which may be nested in tuples, lists and dicts, as may its results.
        inputs: where to differentiate; float tensors.
        create_graph: whether the results can be differentiated again. By default they can inside a function that is
            itself differentiated by one of these transforms, so that they nest.

    Returns:
        (outputs, pullback). `pullback` takes one argument of the outputs' structure and returns a tuple with one entry
        per input, or for a single input that entry alone. An input that `fn` does not depend on has zeros.

    Raises:
        TypeError, ValueError: inputs or gradients are no float tensors, or not of the right structure or shape.

    >>> import corten as ct
    >>> a, x = ct.tensor([[1.0, 2.0], [3.0, 4.0]]), ct.tensor([5.0, 6.0])
    >>> y, pullback = ct.vjp(ct.matmul, a, x)
    >>> da, dx = pullback(ct.tensor([1.0, 0.0]))
    >>> y.tolist(), dx.tolist()
    ([17.0, 39.0], [1.0, 2.0])
    """
    recorded = _recorded(create_graph)
    run = _Run("vjp", fn, inputs)

    def pullback(cotangents: Any) -> Any:
        flat = run.like("gradients", cotangents, run.outputs, run.outputs_tree)
        grads = _fill(run.inputs_tree, run.pull(flat, recorded))
        return grads[0] if len(inputs) == 1 else grads

    return run.result(recorded), pullback


def jvp(fn: Callable[..., Any], primals: Any, tangents: Any, *, create_graph: bool | None = None) -> tuple[Any, Any]:
    """Jacobian-vector product: the outputs of `fn`, and their derivative in the direction of the tangents, `J t`.

    The pullback of `fn` is linear in its argument, and `J t` is its transpose: so two backward passes give an exact
    result, for any operation that has second derivatives.

    Args:
        fn: as of `vjp`.
        primals: a tensor, or a tuple with one entry per argument of `fn`.
        tangents: the direction, of the same structure, shapes and dtypes.
        create_graph: as of `vjp`.

    Returns:
        (outputs, derivatives), of the same structure.

    >>> import corten as ct
    >>> x = ct.tensor([1.0, 2.0, 3.0])
    >>> y, dy = ct.jvp(lambda x: x * x, x, ct.tensor([1.0, 0.0, 10.0]))
    >>> dy.tolist()
    [2.0, 0.0, 60.0]
    """
    recorded = _recorded(create_graph)
    primals, _ = _wrapped(primals)
    tangents, _ = _wrapped(tangents)
    run = _Run("jvp", fn, primals)
    directions = run.like("tangents", tangents, run.inputs, run.inputs_tree)
    return run.result(recorded), _fill(run.outputs_tree, _push(run, directions, recorded))


def _push(run: _Run, directions: Sequence[Tensor], recorded: bool) -> list[Tensor]:
    with enable_grad():
        weights = [zeros_like(y.detach()).requires_grad_() for y in run.outputs]
        pulled = run.pull(weights, True)
    pairs = [(g, t) for g, t in zip(pulled, directions, strict=True) if g.requires_grad]
    pushed: list[Tensor | None] = [None] * len(weights)
    if pairs:
        pushed = _core.grad(
            [g for g, _ in pairs],
            weights,
            [t for _, t in pairs],
            retain_graph=True,
            create_graph=recorded,
            allow_unused=True,
        )
    return [zeros_like(y.detach()) if d is None else d for d, y in zip(pushed, run.outputs, strict=True)]


def _rows(y: Tensor) -> Iterator[Tensor]:
    """For each element of `y` the gradient that picks it."""
    flat, one = zeros((y.size,), dtype=y.dtype, device=y.device), _core.ones((1,), dtype=y.dtype, device=y.device)
    for k in range(y.size):
        yield _core.scatter(flat, 0, _core.tensor([k], device=y.device), one).reshape(y.shape)


def _jacobian_of(run: _Run, recorded: bool) -> list[list[Tensor]]:
    """For each output and each input the Jacobian, of shape `(*output, *input)`."""
    table: list[list[Tensor]] = []
    for j, y in enumerate(run.outputs):
        rows: list[list[Tensor]] = [[] for _ in run.inputs]
        for pick in _rows(y):
            others = [pick if i == j else zeros_like(o.detach()) for i, o in enumerate(run.outputs)]
            for column, g in zip(rows, run.pull(others, recorded), strict=True):
                column.append(g)
        table.append(
            [
                stack(column).reshape((*y.shape, *x.shape))
                if column
                else zeros((*y.shape, *x.shape), dtype=x.dtype, device=x.device)
                for column, x in zip(rows, run.inputs, strict=True)
            ]
        )
    return table


def jacobian(fn: Callable[..., Any], inputs: Any, *, create_graph: bool | None = None) -> Any:
    """All derivatives of all outputs: `J[i, j] = d y_i / d x_j`, one backward pass per output element.

    Args:
        fn: as of `vjp`.
        inputs: a tensor, or a tuple with one entry per argument of `fn`.
        create_graph: as of `vjp`.

    Returns:
        for one output and one input tensor a tensor of shape `(*output.shape, *input.shape)`; in general the structure
        of the outputs, with the structure of the inputs in each place.

    >>> import corten as ct
    >>> ct.jacobian(lambda x: x * x, ct.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    recorded = _recorded(create_graph)
    args, single = _wrapped(inputs)
    run = _Run("jacobian", fn, args)
    rows = [_fill(run.inputs_tree, row) for row in _jacobian_of(run, recorded)]
    return _fill(run.outputs_tree, [row[0] if single else row for row in rows])


def hessian(fn: Callable[..., Any], inputs: Any, *, create_graph: bool | None = None) -> Any:
    """Second derivatives of a function with one result of one element: `H[i, j] = d^2 y / d x_i d x_j`.

    Args:
        fn: gives one tensor of one element.
        inputs: a tensor, or a tuple with one entry per argument of `fn`.
        create_graph: as of `vjp`.

    Returns:
        for one input tensor a tensor of shape `(*input.shape, *input.shape)`; in general the structure of the inputs,
        with the structure of the inputs in each place.

    >>> import corten as ct
    >>> ct.hessian(lambda x: (x[0] ** 2 * x[1]), ct.tensor([3.0, 5.0])).tolist()
    [[10.0, 6.0], [6.0, 0.0]]
    """
    args, _ = _wrapped(inputs)

    def gradient(*xs: Any) -> Any:
        run = _Run("hessian", fn, xs)
        grads = run.pull([_one(run.scalar())], True)
        return _fill(run.inputs_tree, grads)

    recorded = _recorded(create_graph)
    run = _Run("hessian", gradient, args)
    rows = [_fill(run.inputs_tree, row) for row in _jacobian_of(run, recorded)]
    single = isinstance(inputs, Tensor)
    table = _fill(run.outputs_tree, [row[0] if single else row for row in rows])
    return table[0] if single else table


def _one(y: Tensor) -> Tensor:
    return _core.ones(y.shape, dtype=y.dtype, device=y.device)


def hvp(fn: Callable[..., Any], inputs: Any, v: Any, *, create_graph: bool | None = None) -> tuple[Any, Any]:
    """Hessian-vector product `H v` without the Hessian: the value of `fn` and the product.

    It costs about as much as two gradients, whatever the number of elements.

    Args:
        fn: gives one tensor of one element.
        inputs: a tensor, or a tuple with one entry per argument of `fn`.
        v: the vector, of the inputs' structure and shapes.
        create_graph: as of `vjp`.

    >>> import corten as ct
    >>> value, product = ct.hvp(lambda x: (x**3).sum(), ct.tensor([1.0, 2.0]), ct.tensor([1.0, 1.0]))
    >>> product.tolist()
    [6.0, 12.0]
    """
    recorded = _recorded(create_graph)
    args, single = _wrapped(inputs)
    vectors, _ = _wrapped(v)
    run = _Run("hvp", fn, args)
    y = run.scalar()
    directions = run.like("v", vectors, run.inputs, run.inputs_tree)
    with enable_grad():
        grads = run.pull([_one(y)], True)
    pairs = [(g, d) for g, d in zip(grads, directions, strict=True) if g.requires_grad]
    found: list[Tensor | None] = [None] * len(run.inputs)
    if pairs:
        found = _core.grad(
            [g for g, _ in pairs],
            run.inputs,
            [d for _, d in pairs],
            retain_graph=recorded,
            create_graph=recorded,
            allow_unused=True,
        )
    products = [zeros_like(x.detach()) if p is None else p for p, x in zip(found, run.inputs, strict=True)]
    result = _fill(run.inputs_tree, products)
    return run.result(recorded), result[0] if single else result


def value_and_grad(
    fn: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    create_graph: bool | None = None,
) -> Callable[..., Any]:
    """A function that gives the value of `fn` and its gradient.

    Args:
        fn: gives one tensor of one element; with `has_aux` a pair of that and anything else.
        argnums: the positions of the arguments to differentiate with respect to. These may be nested tuples, lists and
            dicts of tensors; other arguments may be anything.
        has_aux: `fn` returns `(value, aux)`; then the result is `((value, aux), grads)`.
        create_graph: as of `vjp`.

    Returns:
        a function of the arguments of `fn` that returns `(value, grads)`: the gradient of the argument if `argnums` is
        a number, else a tuple of them.

    >>> import corten as ct
    >>> def loss(w, x, y):
    ...     return ((x @ w - y) ** 2).mean()
    >>> value, g = ct.value_and_grad(loss)(ct.tensor([1.0, 1.0]), ct.tensor([[1.0, 2.0]]), ct.tensor([2.0]))
    >>> value.item(), g.tolist()
    (1.0, [2.0, 4.0])
    """
    single = isinstance(argnums, int)
    places: tuple[int, ...] = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for place in places:
            if not -len(args) <= place < len(args):
                raise ValueError(f"[value_and_grad] argnums {place} is out of range for {len(args)} arguments")
        recorded = _recorded(create_graph)
        aux: list[Any] = []

        def of_chosen(*chosen: Any) -> Any:
            full = list(args)
            for place, value in zip(places, chosen, strict=True):
                full[place] = value
            result = fn(*full, **kwargs)
            if not has_aux:
                return result
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError("[value_and_grad] with has_aux=True fn must return a pair (value, aux)")
            aux.append(result[1])
            return result[0]

        run = _Run("value_and_grad", of_chosen, tuple(args[place] for place in places))
        grads = _fill(run.inputs_tree, run.pull([_one(run.scalar())], recorded))
        value = run.result(recorded)
        return ((value, aux[0]) if has_aux else value), (grads[0] if single else grads)

    return wrapped
