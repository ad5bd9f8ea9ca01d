"""The array functions of corten: everything that computes on tensors, under the names of the Python Array API standard.

Nearly all of them come straight from the compiled core, docstrings included. What is written here is what reads better
in Python: the gradient modes as context managers and decorators, and `grad` for a single tensor.

All of these names are also names of `corten` itself: `corten.matmul` is `corten.functions.matmul`.
"""

# ruff: noqa: A004 - the array API's names: sum, min, max, any, all, abs, pow, round

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, overload

import numpy as np

from . import _core
from ._core import (
    InternalError,
    Tensor,
    abs,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    add,
    all,
    any,
    arange,
    argmax,
    argmin,
    argsort,
    asarray,
    astype,
    avg_pool2d,
    batch_norm,
    bfloat16,
    binary_cross_entropy_with_logits,
    bool_,
    broadcast_arrays,
    broadcast_to,
    ceil,
    clip,
    concat,
    conv2d,
    conv_transpose2d,
    cos,
    cross_entropy,
    cumulative_prod,
    cumulative_sum,
    diagonal,
    diff,
    divide,
    dropout,
    dtype,
    einsum,
    equal,
    erf,
    exp,
    expand_dims,
    expm1,
    eye,
    finfo,
    flatten,
    flip,
    float16,
    float32,
    float64,
    floor,
    floor_divide,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    gather,
    gelu,
    get_num_threads,
    get_rng_state,
    greater,
    greater_equal,
    iinfo,
    index_select,
    info,
    int8,
    int16,
    int32,
    int64,
    is_grad_enabled,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    linear,
    linspace,
    log,
    log1p,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logsumexp,
    manual_seed,
    masked_fill,
    masked_select,
    matmul,
    matrix_transpose,
    max,
    max_pool2d,
    maximum,
    mean,
    meshgrid,
    min,
    minimum,
    moveaxis,
    mse_loss,
    multiply,
    negative,
    nonzero,
    norm,
    normal,
    not_equal,
    one_hot,
    ones,
    ones_like,
    outer,
    pad,
    permute_dims,
    pow,
    prod,
    rand,
    randint,
    randn,
    reciprocal,
    relu,
    remainder,
    repeat,
    reshape,
    roll,
    round,
    rsqrt,
    scatter,
    scatter_add,
    searchsorted,
    set_grad_enabled,
    set_num_threads,
    set_rng_state,
    sigmoid,
    sign,
    silu,
    sin,
    softmax,
    softplus,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    subtract,
    sum,
    take,
    take_along_axis,
    take_rows,
    tanh,
    tensor,
    tensordot,
    tile,
    topk,
    transpose,
    tril,
    triu,
    trunc,
    uint8,
    unfold,
    uniform,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
    var,
    vecdot,
    where,
    zeros,
    zeros_like,
)
from .checks import tensors

__all__ = [
    "InternalError",
    "Tensor",
    "abs",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "astype",
    "avg_pool2d",
    "batch_norm",
    "bfloat16",
    "binary_cross_entropy_with_logits",
    "bool_",
    "broadcast_arrays",
    "broadcast_to",
    "ceil",
    "clip",
    "concat",
    "conv2d",
    "conv_transpose2d",
    "cos",
    "cross_entropy",
    "cumulative_prod",
    "cumulative_sum",
    "diagonal",
    "diff",
    "divide",
    "dropout",
    "dtype",
    "einsum",
    "enable_grad",
    "equal",
    "erf",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "finfo",
    "flatten",
    "flip",
    "float16",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "gather",
    "gelu",
    "get_num_threads",
    "get_rng_state",
    "grad",
    "greater",
    "greater_equal",
    "iinfo",
    "index_select",
    "info",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_grad_enabled",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "linear",
    "linspace",
    "log",
    "log1p",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "manual_seed",
    "masked_fill",
    "masked_select",
    "matmul",
    "matrix_transpose",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "meshgrid",
    "min",
    "minimum",
    "moveaxis",
    "mse_loss",
    "multiply",
    "negative",
    "no_grad",
    "nonzero",
    "norm",
    "normal",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "outer",
    "pad",
    "permute_dims",
    "pow",
    "prod",
    "rand",
    "randint",
    "randn",
    "reciprocal",
    "relu",
    "remainder",
    "repeat",
    "reshape",
    "roll",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "searchsorted",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "take_rows",
    "tanh",
    "tensor",
    "tensordot",
    "tile",
    "topk",
    "transpose",
    "tril",
    "triu",
    "trunc",
    "uint8",
    "unfold",
    "uniform",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "var",
    "vecdot",
    "where",
    "zeros",
    "zeros_like",
]


class _GradMode(ContextDecorator):
    """Sets the gradient mode of the running thread on entry and puts the old one back on exit."""

    _mode: bool

    def __init__(self) -> None:
        self._previous: list[bool] = []  # a stack, so that one instance may be entered again while it is active

    def _recreate_cm(self) -> _GradMode:
        # A decorated function may run in several threads at once: each call gets a context of its own.
        return type(self)()

    def __enter__(self) -> None:
        self._previous.append(_core.set_grad_enabled(self._mode))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core.set_grad_enabled(self._previous.pop())


class no_grad(_GradMode):
    """Record no graph: results of operations inside need no gradient. A context manager and a decorator.

    Use it for evaluation, where the graph would only cost memory. The mode belongs to the running thread.

    >>> import corten as ct
    >>> x = ct.tensor([1.0, 2.0], requires_grad=True)
    >>> with ct.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    >>> @ct.no_grad()
    ... def double(x):
    ...     return x * 2
    >>> double(x).requires_grad
    False
    """

    _mode = False


class enable_grad(_GradMode):
    """Record a graph again inside a `no_grad` block. A context manager and a decorator.

    >>> import corten as ct
    >>> x = ct.tensor([1.0, 2.0], requires_grad=True)
    >>> with ct.no_grad(), ct.enable_grad():
    ...     y = x * 2
    >>> y.requires_grad
    True
    """

    _mode = True


@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor,
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> Tensor: ...
@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor, ...]: ...
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> Tensor | tuple[Tensor | None, ...] | None:
    """Gradients of `outputs` with respect to `inputs`, returned and not accumulated into `.grad`.

    For outputs `y_k` with weights `v_k` it computes `sum_k v_k * d y_k / d x` for each input `x`.

    Args:
        outputs: a tensor or a sequence of tensors that the gradients are of.
        inputs: a tensor or a sequence of tensors that the gradients are with respect to.
        grad_outputs: the weights `v_k`, each of its output's shape; may be left out for outputs of one element.
        retain_graph: keep the graph for another walk; by default it is kept only if `create_graph` is true.
        create_graph: make the gradients differentiable themselves.
        allow_unused: give None for an input that the outputs do not depend on, instead of raising.

    Returns:
        one tensor if `inputs` is a tensor, else a tuple with one tensor per input, each of its input's shape.

    Raises:
        RuntimeError: an output needs no gradient, an input is not part of the graph, or the graph was already freed.

    >>> import corten as ct
    >>> x = ct.tensor(3.0, requires_grad=True)
    >>> dx = ct.grad(x**3, x, create_graph=True)
    >>> dx.item(), ct.grad(dx, x).item()
    (27.0, 18.0)
    """
    single = isinstance(inputs, Tensor)
    gradients = _core.grad(
        tensors("[grad] outputs", outputs),
        tensors("[grad] inputs", inputs),
        [grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs,
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=allow_unused,
    )
    return gradients[0] if single else tuple(gradients)


def to_array(values: Any) -> np.ndarray[Any, Any]:
    """Numbers as a NumPy array to look at: a tensor without its graph, bfloat16, which NumPy lacks, as float32."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    x: Tensor = values.detach()
    return (x.astype(float32) if x.dtype == bfloat16 else x).numpy()
