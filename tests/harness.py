"""Turns a sample of `op_table` into tensors, runs an operation and compares the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from corten import _core
from op_table import Const, Row, Sample, State, Tol

Tensor = _core.Tensor


def replace(value: Any, fn: Callable[[np.ndarray, type | None], Any]) -> Any:
    """`value` with every array replaced by `fn(array, marker)`; marker is None, Const or State."""
    if isinstance(value, Const):
        return fn(value.array, type(value))
    if isinstance(value, np.ndarray):
        return fn(value, None)
    if isinstance(value, (list, tuple)):
        return type(value)(replace(v, fn) for v in value)
    return value


def bind(sample: Sample, fn: Callable[[np.ndarray, type | None], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call with arrays replaced."""
    return replace(sample.args, fn), {name: replace(value, fn) for name, value in sample.kwargs.items()}


def leaves(sample: Sample) -> list[np.ndarray]:
    """The arrays that gradients flow to, in the order in which `bind` meets them."""
    found: list[np.ndarray] = []
    bind(sample, lambda array, marker: found.append(array) if marker is None and array.dtype.kind == "f" else None)
    return found


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """Float arrays rounded to `dtype`; others as they are."""
    return array.astype(dtype) if array.dtype.kind == "f" else array


def expected(row: Row, sample: Sample, dtype: str) -> list[np.ndarray]:
    """The formula in float64, on the inputs rounded to `dtype`."""
    args, kwargs = bind(sample, lambda array, _: cast(cast(array, dtype), "float64"))
    with np.errstate(all="ignore"):
        result = row.numpy(*args, **kwargs)
    return [np.asarray(r) for r in result] if isinstance(result, list) else [np.asarray(result)]


def listed(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def run(
    row: Row,
    sample: Sample,
    dtype: str = "float64",
    device: str = "cpu",
    view: Callable[..., Tensor] | None = None,
    grad: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """(outputs, inputs that gradients flow to). `view` lays the inputs out differently (see `VIEWS`)."""
    inputs: list[Tensor] = []

    def convert(array: np.ndarray, marker: type | None) -> Tensor:
        array = cast(array, dtype)
        wants_grad = grad and marker is None and array.dtype.kind == "f"
        tensor = (
            _core.tensor(array, device=device) if view is None or marker is State else view(array, device, wants_grad)
        )
        if wants_grad:
            if not tensor.requires_grad:
                tensor.requires_grad_()
            inputs.append(tensor)
        return tensor

    args, kwargs = bind(sample, convert)
    return listed(row(*args, **kwargs)), inputs


def cotangents(outputs: Sequence[Tensor], dtype: str) -> list[np.ndarray]:
    """Fixed random weights of the outputs, so that a check of one scalar sees every entry of the Jacobian."""
    rng = np.random.default_rng(5)
    return [np.asarray(rng.uniform(0.5, 1.5, size=o.shape) * rng.choice([-1.0, 1.0], size=o.shape)) for o in outputs]


def gradients(
    row: Row, sample: Sample, dtype: str = "float64", device: str = "cpu", view: Callable[..., Tensor] | None = None
) -> list[np.ndarray | None]:
    """Gradients of the weighted sum of the outputs, one for each input."""
    outputs, inputs = run(row, sample, dtype, device, view, grad=True)
    outputs = [o for o in outputs if o.dtype.is_floating_point]  # indices have no gradient
    weights = [np.asarray(w, dtype=o.dtype.name) for w, o in zip(cotangents(outputs, dtype), outputs, strict=True)]
    # `_expanded` changes values (it repeats the first slice), so the cotangents stay as they are.
    plain = view is None or view is _expanded
    lay = (lambda a: _core.tensor(a, device=device)) if plain else (lambda a: view(a, device, False))
    grads = _core.grad(outputs, inputs, [lay(w) for w in weights], allow_unused=True)
    return [None if g is None else to_numpy(g) for g in grads]


def weighted(row: Row, sample: Sample, device: str = "cpu") -> Callable[..., Tensor]:
    """The operation as a scalar function of its differentiable float64 inputs."""

    def fn(*inputs: Tensor) -> Tensor:
        queue = iter(inputs)

        def convert(array: np.ndarray, marker: type | None) -> Tensor:
            return next(queue) if marker is None and array.dtype.kind == "f" else _core.tensor(array, device=device)

        args, kwargs = bind(sample, convert)
        outputs = [o for o in listed(row(*args, **kwargs)) if o.dtype.is_floating_point]
        total = _core.tensor(0.0, dtype="float64", device=device)
        for output, w in zip(outputs, cotangents(outputs, "float64"), strict=True):
            total = total + (output * _core.tensor(w, device=device)).sum()
        return total

    return fn


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def bits(tensor: Tensor | np.ndarray | None) -> tuple[Any, ...] | None:
    """Everything that two equal results share: dtype, shape and every bit."""
    if tensor is None:
        return None
    array = tensor if isinstance(tensor, np.ndarray) else to_numpy(tensor)
    return array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes()


def close(actual: np.ndarray, wanted: np.ndarray, tol: Tol, dtype: str, what: str) -> None:
    """Fails with the worst element, its place and the tolerance's reason."""
    assert actual.shape == wanted.shape, f"{what}: shape {actual.shape}, expected {wanted.shape}"
    rtol, atol = tol.of(dtype)
    with np.errstate(all="ignore"):
        wanted = wanted.astype(actual.dtype)
        same = (
            (actual == wanted) | (np.isnan(actual) & np.isnan(wanted)) if actual.dtype.kind == "f" else actual == wanted
        )
        if actual.dtype.kind != "f":
            assert same.all(), f"{what}: {actual} != {wanted}"
            return
        a, w = actual.astype(np.float64), wanted.astype(np.float64)
        excess = np.where(same, 0.0, np.abs(a - w) - (atol + rtol * np.abs(w)))
        excess = np.where(np.isfinite(a) & np.isfinite(w) | same, excess, np.inf)
    if excess.size and not (excess <= 0).all():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
        raise AssertionError(
            f"{what}: at {tuple(int(i) for i in worst)} got {actual[worst]!r}, expected {wanted[worst]!r}; "
            f"rtol {rtol}, atol {atol} ({tol.why}); {int((excess > 0).sum())} of {excess.size} differ"
        )


# -- layouts: the same logical values, differently in memory


def _reversed_axes(array: np.ndarray, device: str, grad: bool) -> Tensor:
    """Column-major."""
    base = _core.tensor(array.T.copy(order="C"), device=device, requires_grad=grad)
    return _core.permute_dims(base, tuple(range(array.ndim))[::-1])


def _stepped(array: np.ndarray, device: str, grad: bool) -> Tensor:
    """Every second element of every axis of a larger array of garbage, starting at 1."""
    base = np.full([2 * n + 1 for n in array.shape], 1 if array.dtype.kind == "b" else 93, dtype=array.dtype)
    index = (slice(1, None, 2),) * array.ndim
    base[index] = array
    return _core.tensor(base, device=device, requires_grad=grad)[index]


def _flipped(array: np.ndarray, device: str, grad: bool) -> Tensor:
    """Negative strides on every axis."""
    index = (slice(None, None, -1),) * array.ndim
    return _core.tensor(np.array(array[index], order="C"), device=device, requires_grad=grad)[index]


def _offset(array: np.ndarray, device: str, grad: bool) -> Tensor:
    """Contiguous, but starting one element into its storage: no vector load is aligned."""
    base = np.concatenate([np.zeros(1, array.dtype), array.ravel()])
    return _core.reshape(_core.tensor(base, device=device, requires_grad=grad)[1:], array.shape)


def expand(array: np.ndarray) -> np.ndarray:
    """The first slice along axis 0, repeated."""
    return np.broadcast_to(array[:1], array.shape).copy() if array.ndim and array.shape[0] else array


def _expanded(array: np.ndarray, device: str, grad: bool) -> Tensor:
    """Stride 0 along the first axis. Compared with the copied values of `expand`."""
    if not array.ndim or not array.shape[0]:
        return _core.tensor(array, device=device, requires_grad=grad)
    return _core.broadcast_to(_core.tensor(array[:1], device=device, requires_grad=grad), array.shape)


VIEWS: dict[str, Callable[[np.ndarray, str, bool], Tensor]] = {
    "column-major": _reversed_axes,
    "stepped": _stepped,
    "flipped": _flipped,
    "offset": _offset,
}
EXPANDED = _expanded
