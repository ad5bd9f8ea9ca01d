"""The compiled core of corten: tensors, automatic differentiation and operations (see rust/)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import numpy.typing as npt

__version__: str

class InternalError(RuntimeError): ...

@final
class dtype:
    """Element type. `name`, `itemsize`, `is_floating_point`; compares with `np.dtype` and strings; `numpy()` gives the NumPy dtype."""
    @property
    def name(self) -> str: ...
    @property
    def itemsize(self) -> int: ...
    @property
    def is_floating_point(self) -> bool: ...

float32: dtype
float64: dtype
int64: dtype
int32: dtype
int16: dtype
int8: dtype
uint8: dtype
bool_: dtype

type Scalar = bool | int | float
type DType = dtype | str | npt.DTypeLike
type Axis = int | Sequence[int] | None
type Index = int | slice | None | tuple[int | slice | None, ...]

@final
class Tensor:
    shape: tuple[int, ...]
    ndim: int
    size: int
    dtype: dtype
    device: str
    strides: tuple[int, ...]
    is_leaf: bool
    requires_grad: bool  # settable
    grad: Tensor | None  # settable (None or a tensor of the same shape and dtype)
    grad_fn: str | None  # name of the node, None for a leaf
    T: Tensor
    mT: Tensor
    # -- autograd
    def requires_grad_(self, requires_grad: bool = True) -> Tensor: ...
    def backward(
        self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None: ...
    def detach(self) -> Tensor: ...
    def retain_grad(self) -> None: ...
    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> int: ...
    def remove_hook(self, handle: int) -> None: ...
    # -- data
    def numpy(
        self,
    ) -> npt.NDArray[
        Any
    ]: ...  # read-only view of a C-contiguous copy-or-share; raises when requires_grad (use detach())
    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]: ...
    def item(self) -> Scalar: ...
    def tolist(self) -> Any: ...
    def astype(self, dtype: DType) -> Tensor: ...
    def to(self, target: str | DType) -> Tensor: ...  # device name or dtype
    def clone(self) -> Tensor: ...
    def contiguous(self) -> Tensor: ...
    def assign_(self, value: Tensor) -> None: ...  # leaf only, same shape and dtype (cast); copy-on-write
    def __setitem__(
        self, index: Index, value: Tensor | Scalar
    ) -> None: ...  # leaf without graph only; of a view raises
    # number protocol, comparisons (elementwise), __getitem__ (basic), __len__, __iter__, __bool__/__float__/__int__/__index__ (size 1),
    # __matmul__, __neg__, __pos__, __abs__, __pow__, __floordiv__, __mod__, __and__/__or__/__xor__/__invert__ (bool), __hash__ = identity
    # every function below whose first argument is a tensor is a method too (x.sum(axis), x.reshape(2, 3), x.relu(), x.exp() ...), and
    # methods accept torch's spellings dim= and keepdim=.

# -- creation
def tensor(
    data: Any, dtype: DType | None = None, requires_grad: bool = False, device: str = "cpu"
) -> Tensor: ...  # copies
def asarray(data: Any, dtype: DType | None = None, copy: bool | None = None, device: str = "cpu") -> Tensor: ...
def from_numpy(array: npt.NDArray[Any]) -> Tensor: ...  # shares memory, never written by corten
def zeros(
    shape: int | Sequence[int], dtype: DType | None = None, requires_grad: bool = False, device: str = "cpu"
) -> Tensor: ...
def ones(
    shape: int | Sequence[int], dtype: DType | None = None, requires_grad: bool = False, device: str = "cpu"
) -> Tensor: ...
def full(
    shape: int | Sequence[int],
    fill_value: Scalar,
    dtype: DType | None = None,
    requires_grad: bool = False,
    device: str = "cpu",
) -> Tensor: ...
def zeros_like(x: Tensor, dtype: DType | None = None) -> Tensor: ...
def ones_like(x: Tensor, dtype: DType | None = None) -> Tensor: ...
def full_like(x: Tensor, fill_value: Scalar, dtype: DType | None = None) -> Tensor: ...
def arange(
    start: Scalar, stop: Scalar | None = None, step: Scalar = 1, dtype: DType | None = None, device: str = "cpu"
) -> Tensor: ...
def linspace(
    start: float, stop: float, num: int, dtype: DType | None = None, endpoint: bool = True, device: str = "cpu"
) -> Tensor: ...
def eye(
    n_rows: int, n_cols: int | None = None, k: int = 0, dtype: DType | None = None, device: str = "cpu"
) -> Tensor: ...
def rand(
    *shape: int, dtype: DType | None = None, requires_grad: bool = False, device: str = "cpu"
) -> Tensor: ...  # also rand((2, 3))
def randn(*shape: int, dtype: DType | None = None, requires_grad: bool = False, device: str = "cpu") -> Tensor: ...
def randint(
    low: int, high: int, shape: int | Sequence[int], dtype: DType | None = None, device: str = "cpu"
) -> Tensor: ...
def uniform(
    shape: Sequence[int], low: float = 0.0, high: float = 1.0, dtype: DType | None = None, device: str = "cpu"
) -> Tensor: ...
def normal(
    shape: Sequence[int], mean: float = 0.0, std: float = 1.0, dtype: DType | None = None, device: str = "cpu"
) -> Tensor: ...

# -- state
def manual_seed(seed: int) -> None: ...
def get_rng_state() -> tuple[int, int]: ...  # (seed, next stream)
def set_rng_state(state: tuple[int, int]) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def is_grad_enabled() -> bool: ...
def set_grad_enabled(
    mode: bool,
) -> bool: ...  # returns the previous mode; no_grad/enable_grad are Python context managers/decorators on top
def grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> list[Tensor | None]: ...
def info() -> dict[str, Any]: ...  # version, isa, threads, cores, features, allocator statistics

# -- elementwise (Python scalars are weak on either side)
def add(x1: Tensor | Scalar, x2: Tensor | Scalar) -> Tensor: ...

# subtract multiply divide floor_divide remainder pow maximum minimum: same form
# equal not_equal less less_equal greater greater_equal: same form, bool result
# logical_and logical_or logical_xor logical_not isnan isinf isfinite
# negative abs sign square sqrt rsqrt reciprocal exp expm1 log log1p sin cos floor ceil round trunc erf: f(x: Tensor) -> Tensor
def clip(x: Tensor, min: Scalar | None = None, max: Scalar | None = None) -> Tensor: ...
def where(condition: Tensor, x1: Tensor | Scalar, x2: Tensor | Scalar) -> Tensor: ...
def astype(x: Tensor, dtype: DType) -> Tensor: ...

# -- reductions
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False, dtype: DType | None = None) -> Tensor: ...

# mean prod(no dtype) max min any all: (x, axis=None, keepdims=False)
def var(x: Tensor, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor: ...

# std: same as var
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor: ...

# argmin: same

# -- shape
def reshape(x: Tensor, shape: int | Sequence[int]) -> Tensor: ...
def permute_dims(x: Tensor, axes: Sequence[int]) -> Tensor: ...
def transpose(x: Tensor, axis1: int, axis2: int) -> Tensor: ...
def squeeze(x: Tensor, axis: Axis = None) -> Tensor: ...
def expand_dims(x: Tensor, axis: int = 0) -> Tensor: ...
def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor: ...
def flatten(x: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor: ...
def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor: ...
def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor: ...
def split(x: Tensor, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]: ...
def flip(x: Tensor, axis: Axis = None) -> Tensor: ...
def matmul(x1: Tensor, x2: Tensor) -> Tensor: ...
def take_rows(x: Tensor, indices: Tensor) -> Tensor: ...  # x[indices] along axis 0, with gradient

# -- neural network
def relu(x: Tensor) -> Tensor: ...
def gelu(x: Tensor, approximate: Literal["none", "tanh"] = "none") -> Tensor: ...

# sigmoid tanh softplus silu: (x)
def softmax(x: Tensor, axis: int = -1) -> Tensor: ...
def log_softmax(x: Tensor, axis: int = -1) -> Tensor: ...
def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Literal["none", "relu"] = "none"
) -> Tensor: ...
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | Literal["valid", "same", "full"] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    activation: Literal["none", "relu"] = "none",
) -> Tensor: ...
def max_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Tensor: ...
def avg_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor: ...
def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor: ...
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> (
    Tensor
): ...  # x (N, C, *); training updates the running statistics (written through make_mut; unbiased variance as torch)
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor: ...
def cross_entropy(x: Tensor, target: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor: ...

# x (N, C) or (C,) or (N, C, d1, ...); target: class indices (any integer dtype) or probabilities of x's shape
def binary_cross_entropy_with_logits(
    x: Tensor, target: Tensor, reduction: Literal["mean", "sum", "none"] = "mean"
) -> Tensor: ...
def mse_loss(x: Tensor, target: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor: ...

# -- optimizer steps: multi-tensor, in place through copy-on-write; parameters whose grad is None must be left out by the caller
def sgd_step(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    momentum_buffers: Sequence[Tensor] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
) -> None: ...
def adam_step(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
) -> None: ...

# -- for tests
def op_names() -> list[str]: ...  # every operation of this module that computes on tensors (the registry test reads it)
def gradcheck(
    fn: Callable[..., Tensor], inputs: Sequence[Tensor], eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7
) -> bool: ...
def threads_worked() -> int: ...
def reset_threads_worked() -> None: ...
def parameter_copies() -> int: ...  # copy-on-write copies made so far
