"""What corten is compared with PyTorch on: one line per layer, function and optimizer, read by script and test alike.

`tools/make_golden.py` runs every case in PyTorch and keeps inputs, parameters, results and gradients in the
`.safetensors` files beside this one; `tests/test_golden.py` runs the same cases in corten. This file imports neither.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Input:
    """An argument of the call: how to draw it, and whether its gradient is compared."""

    draw: Callable[[np.random.Generator], Array]
    grad: bool = False


@dataclass(frozen=True)
class Values:
    """A tensor among the arguments of a constructor: `weight=Values(1.0, 0.5)`."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def __repr__(self) -> str:
        return f"{list(self.values)}"


@dataclass(frozen=True)
class Bools:
    """A mask among the keywords of a call: `attn_mask=Bools("010", "001")`."""

    rows: tuple[str, ...]

    def __init__(self, *rows: str) -> None:
        object.__setattr__(self, "rows", rows)

    def __repr__(self) -> str:
        return " ".join(self.rows)

    def array(self) -> Array:
        """True where there is a 1; one row is a vector, parts of rows between bars are an axis before."""
        found = np.array([[[c == "1" for c in part] for part in row.split("|")] for row in self.rows])
        return found if "|" in self.rows[0] else found[:, 0]


@dataclass(frozen=True)
class Built:
    """A module among the arguments of a constructor."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join([*map(repr, self.args), *(f'{k}={v!r}' for k, v in self.kwargs.items())])})"


def built(name: str, *args: Any, **kwargs: Any) -> Built:
    """A module to be made: `built("LayerNorm", 4)`."""
    return Built(name, args, kwargs)


def normal(*shape: int, scale: float = 1.0) -> Input:
    """Standard normal numbers that gradients flow to."""
    return Input(lambda rng: rng.normal(size=shape) * scale, grad=True)


def spread(*shape: int) -> Input:
    """Shuffled evenly spaced numbers in [-3, 3]: no ties and nothing near a kink, so that maxima have one gradient."""

    def draw(rng: np.random.Generator) -> Array:
        n = int(np.prod(shape))
        return rng.permutation(np.linspace(-3.01, 3.03, n)).reshape(shape)

    return Input(draw, grad=True)


def unit(*shape: int, grad: bool = False) -> Input:
    """Numbers in [0.05, 0.95]: probabilities."""
    return Input(lambda rng: rng.uniform(0.05, 0.95, size=shape), grad=grad)


def const(*shape: int) -> Input:
    """Standard normal numbers without gradient: targets."""
    return Input(lambda rng: rng.normal(size=shape))


def ints(high: int, *shape: int) -> Input:
    """Integers in [0, high): classes, rows."""
    return Input(lambda rng: rng.integers(0, high, size=shape))


def exactly(*values: Any) -> Input:
    """These integers."""
    return Input(lambda _: np.array(values))


def simplex(*shape: int, log: bool = False) -> Input:
    """Distributions over the last axis, or their logarithms."""

    def draw(rng: np.random.Generator) -> Array:
        e = rng.uniform(0.1, 1.0, size=shape)
        p = e / e.sum(axis=-1, keepdims=True)
        return np.log(p) if log else p

    return Input(draw)


@dataclass(frozen=True)
class Case:
    """A call: of a module, `nn.<name>(*args, **kwargs)(*inputs)`, or of `F.<name>(*inputs, *args, **kwargs)`."""

    name: str
    inputs: tuple[Input, ...]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: None: as constructed. True and False: after `.train(training)`.
    training: bool | None = None
    #: How often the module is called; the last result counts (running statistics need more than one).
    calls: int = 1
    function: bool = False
    note: str = ""
    #: How far PyTorch itself is from the truth in float64, where that is more than roundings.
    torch_off: float = 0.0
    #: Keywords of the call of a module.
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The call as one would write it: unique, and the name of the case in the files."""
        words = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        words += [f".{k}={v!r}" for k, v in self.how.items()]
        mode = {None: "", True: " train", False: " eval"}[self.training]
        note = f" {self.note}" if self.note else ""
        return f"{'F.' if self.function else ''}{self.name}({', '.join(words)}){mode}{note}"

    def rng(self) -> np.random.Generator:
        """Random numbers of this case alone: a new case changes no other."""
        return np.random.default_rng(zlib.crc32(self.id.encode()))


def call(
    name: str,
    *args: Any,
    of: tuple[Input, ...] | Input,
    training: bool | None = None,
    calls: int = 1,
    note: str = "",
    torch_off: float = 0.0,
    how: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Case:
    """A case: `call("Conv2d", 3, 4, 3, stride=2, of=normal(2, 3, 7, 8))`."""
    inputs = of if isinstance(of, tuple) else (of,)
    function = name.startswith("F.")
    return Case(name.removeprefix("F."), inputs, args, kwargs, training, calls, function, note, torch_off, how or {})


def cotangent(shape: tuple[int, ...]) -> Array:
    """The gradient that is sent back into a result: no two neighbours are equal, and all are exact in float32."""
    n = int(np.prod(shape))
    return (((np.arange(n) * 7) % 11 - 5.25) / 4).reshape(shape)


def flat(output: Any) -> list[Any]:
    """The tensors of a result, which may be a tuple of them and of tuples."""
    return [t for part in output for t in flat(part)] if isinstance(output, tuple) else [output]


IMAGE = normal(2, 4, 7, 6)
STEPS = normal(5, 2, 3)
SERIES = normal(2, 4, 9)
ROWS = normal(4, 6)
POOLED = spread(2, 3, 7, 6)
POOLED_SERIES = spread(2, 3, 11)
SCORES = (normal(5, 4), ints(4, 5))
PAIR = (normal(3, 5), const(3, 5))
QKV = (normal(3, 2, 4), normal(5, 2, 4), normal(5, 2, 4))
BATCHES = (normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 4))
MASK = ("00110", "10000", "01001")
CAUSAL = ("01111", "00111", "00011", "00001", "00000")

LAYERS: list[Case] = [
    # -- linear and embedding
    call("Linear", 6, 3, of=ROWS),
    call("Linear", 6, 3, bias=False, of=ROWS),
    call("Linear", 6, 3, of=normal(2, 3, 6), note="three axes"),
    call("Linear", 6, 3, of=normal(6), note="vector"),
    call("Embedding", 7, 3, of=ints(7, 2, 5)),
    call("Embedding", 7, 3, padding_idx=2, of=exactly([2, 0, 2], [6, 5, 5])),
    call("Embedding", 7, 3, padding_idx=-1, of=exactly(6, 0, 0, 3)),
    call("Embedding", 7, 3, max_norm=1.0, of=exactly(6, 0, 0, 3)),
    call("Identity", of=ROWS),
    call("Flatten", of=normal(2, 3, 4)),
    call("Flatten", 0, 1, of=normal(2, 3, 4)),
    # -- recurrent layers: all outputs, y and the last states
    call("RNN", 3, 4, of=STEPS),
    call("RNN", 3, 4, nonlinearity="relu", of=STEPS),
    call("RNN", 3, 4, 2, bidirectional=True, batch_first=True, of=(STEPS, normal(4, 5, 4))),
    call("LSTM", 3, 4, of=STEPS),
    call("LSTM", 3, 4, bias=False, batch_first=True, of=STEPS),
    call("LSTM", 3, 4, 3, bidirectional=True, of=STEPS),
    call("LSTM", 3, 4, of=normal(5, 3), note="one sequence"),
    call("GRU", 3, 4, of=(STEPS, normal(1, 2, 4))),
    call("GRU", 3, 4, bias=False, batch_first=True, of=STEPS),
    call("GRU", 3, 4, 2, bidirectional=True, of=STEPS),
    call("RNNCell", 3, 4, of=(normal(2, 3), normal(2, 4))),
    call("LSTMCell", 3, 4, of=normal(2, 3)),
    call("GRUCell", 3, 4, bias=False, of=(normal(2, 3), normal(2, 4))),
    # -- attention: results and weights
    call("MultiheadAttention", 4, 2, of=QKV),
    call("MultiheadAttention", 4, 2, batch_first=True, bias=False, of=BATCHES),
    call("MultiheadAttention", 4, 2, batch_first=True, of=BATCHES, how={"key_padding_mask": Bools("00001", "00111")}),
    call("MultiheadAttention", 4, 2, batch_first=True, of=BATCHES, how={"attn_mask": Bools(*MASK)}),
    call(
        "MultiheadAttention",
        4,
        2,
        batch_first=True,
        of=BATCHES,
        how={"attn_mask": Bools(*MASK), "key_padding_mask": Bools("00010", "00001"), "average_attn_weights": False},
    ),
    call("MultiheadAttention", 4, 2, kdim=3, vdim=5, of=(normal(3, 2, 4), normal(5, 2, 3), normal(5, 2, 5))),
    call("MultiheadAttention", 4, 2, add_bias_kv=True, add_zero_attn=True, of=QKV, how={"attn_mask": Bools(*MASK)}),
    call("MultiheadAttention", 4, 2, of=(normal(3, 4), normal(5, 4), normal(5, 4)), note="no batch"),
    call("F.scaled_dot_product_attention", of=(normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 3))),
    call("F.scaled_dot_product_attention", is_causal=True, of=(normal(2, 2, 5, 4),) * 3),
    call(
        "F.scaled_dot_product_attention",
        scale=0.3,
        enable_gqa=True,
        of=(normal(2, 4, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4), normal(3, 5)),
        note="added mask",
    ),
    call("TransformerEncoderLayer", 4, 2, 6, 0.0, of=normal(5, 2, 4), how={"src_mask": Bools(*CAUSAL)}),
    call("TransformerEncoderLayer", 4, 2, 6, 0.0, "gelu", batch_first=True, norm_first=True, of=normal(2, 5, 4)),
    call("TransformerEncoderLayer", 4, 2, 6, 0.0, bias=False, of=normal(5, 4), note="no batch"),
    call(
        "TransformerDecoderLayer",
        4,
        2,
        6,
        0.0,
        batch_first=True,
        of=(normal(2, 3, 4), normal(2, 5, 4)),
        how={"tgt_mask": Bools("011", "001", "000"), "memory_key_padding_mask": Bools("00001", "00011")},
    ),
    call("TransformerDecoderLayer", 4, 2, 6, 0.0, norm_first=True, of=(normal(3, 2, 4), normal(5, 2, 4))),
    call(
        "TransformerEncoder",
        built("TransformerEncoderLayer", 4, 2, 6, 0.0, batch_first=True),
        2,
        built("LayerNorm", 4),
        of=normal(2, 5, 4),
        how={"src_key_padding_mask": Bools("00001", "00111")},
    ),
    call(
        "TransformerDecoder",
        built("TransformerDecoderLayer", 4, 2, 6, 0.0),
        2,
        of=(normal(3, 2, 4), normal(5, 2, 4)),
    ),
    call(
        "Transformer",
        4,
        2,
        2,
        1,
        6,
        0.0,
        batch_first=True,
        of=(normal(2, 5, 4), normal(2, 3, 4)),
        how={"tgt_mask": Bools("011", "001", "000"), "src_key_padding_mask": Bools("00001", "00111")},
    ),
    # -- convolutions
    call("Conv1d", 4, 6, 3, of=SERIES),
    call("Conv1d", 4, 6, 3, stride=2, padding=1, of=SERIES),
    call("Conv1d", 4, 6, 3, dilation=2, padding="same", of=SERIES),
    call("Conv1d", 4, 6, 2, groups=2, bias=False, of=SERIES),
    call("Conv1d", 4, 6, 3, of=normal(4, 9), note="no batch"),
    call("Conv2d", 4, 6, 3, of=IMAGE),
    call("Conv2d", 4, 6, 1, of=IMAGE),
    call("Conv2d", 4, 6, (3, 2), stride=(2, 1), padding=(1, 0), of=IMAGE),
    call("Conv2d", 4, 6, 3, padding="same", dilation=2, of=IMAGE),
    call("Conv2d", 4, 6, 3, padding="valid", dilation=(1, 2), of=IMAGE),
    call("Conv2d", 4, 6, 3, stride=2, padding=2, dilation=2, groups=2, of=IMAGE),
    call("Conv2d", 4, 4, 3, groups=4, bias=False, of=IMAGE, note="depthwise"),
    call("Conv2d", 4, 6, 3, of=normal(4, 7, 6), note="no batch"),
    call("ConvTranspose1d", 4, 3, 3, of=SERIES),
    call("ConvTranspose1d", 4, 6, 3, stride=3, padding=1, output_padding=2, groups=2, dilation=2, of=SERIES),
    call("ConvTranspose2d", 4, 3, 3, of=IMAGE),
    call("ConvTranspose2d", 4, 3, (3, 2), stride=2, padding=1, output_padding=(1, 0), bias=False, of=IMAGE),
    call("ConvTranspose2d", 4, 6, 3, stride=(1, 2), groups=2, dilation=(2, 1), of=IMAGE),
    call("ConvTranspose2d", 4, 3, 2, stride=2, of=normal(4, 7, 6), note="no batch"),
    # -- pooling
    call("MaxPool1d", 3, of=POOLED_SERIES),
    call("MaxPool1d", 3, stride=2, padding=1, dilation=2, of=POOLED_SERIES),
    call("MaxPool1d", 2, stride=3, ceil_mode=True, of=POOLED_SERIES),
    call("MaxPool2d", 2, of=POOLED),
    call("MaxPool2d", 3, stride=2, padding=1, of=POOLED),
    call("MaxPool2d", (2, 3), stride=(1, 2), dilation=(2, 1), of=POOLED),
    call("MaxPool2d", 2, ceil_mode=True, of=POOLED),
    call("AvgPool1d", 3, of=SERIES),
    call("AvgPool1d", 3, stride=2, padding=1, of=SERIES),
    call("AvgPool1d", 4, stride=3, padding=2, ceil_mode=True, count_include_pad=False, of=SERIES),
    call("AvgPool2d", 2, of=IMAGE),
    call("AvgPool2d", 3, stride=2, padding=1, of=IMAGE),
    call("AvgPool2d", (3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False, of=IMAGE),
    call("AvgPool2d", 3, stride=2, padding=1, ceil_mode=True, of=IMAGE),
    call("AdaptiveAvgPool1d", 4, of=SERIES),
    call("AdaptiveAvgPool2d", 1, of=IMAGE),
    call("AdaptiveAvgPool2d", (3, 4), of=IMAGE),
    call("AdaptiveAvgPool2d", (None, 2), of=IMAGE),
    call("AdaptiveMaxPool1d", 4, of=POOLED_SERIES),
    call("AdaptiveMaxPool2d", 2, of=POOLED),
    call("AdaptiveMaxPool2d", (None, 4), of=POOLED),
    call("LPPool1d", 2, 3, of=unit(2, 3, 11, grad=True)),
    call("LPPool2d", 3, (2, 3), stride=2, of=unit(2, 3, 7, 6, grad=True)),
    call("LPPool2d", 1.5, 2, ceil_mode=True, of=unit(2, 3, 7, 6, grad=True)),
    # -- rearrangement
    call("Unflatten", 1, (2, 3), of=ROWS),
    call("PixelShuffle", 2, of=normal(2, 4, 3, 2)),
    call("PixelUnshuffle", 2, of=normal(2, 3, 4, 6)),
    call("Unfold", (3, 2), dilation=(1, 2), padding=1, stride=2, of=IMAGE),
    call("Fold", (5, 4), 2, stride=(1, 2), of=normal(2, 12, 8)),
    call("Fold", (4, 5), (3, 2), dilation=(1, 2), padding=1, of=normal(2, 6, 20)),
    call("ConstantPad1d", (1, 2), 0.5, of=SERIES),
    call("ConstantPad2d", (1, -1, 2, 0), 0.5, of=IMAGE),
    call("ZeroPad1d", 2, of=SERIES),
    call("ZeroPad2d", (1, 2, 3, 0), of=IMAGE),
    call("ReflectionPad1d", (1, 2), of=SERIES),
    call("ReflectionPad2d", (1, 2, 3, 0), of=IMAGE),
    call("ReplicationPad1d", 2, of=SERIES),
    call("ReplicationPad2d", (1, 2, 3, 0), of=IMAGE),
    call("CircularPad1d", (3, 1), of=SERIES),
    call("CircularPad2d", (1, 2, 3, 0), of=IMAGE),
    call("Upsample", scale_factor=2, of=IMAGE),
    call("Upsample", size=(5, 9), of=IMAGE),
    call("Upsample", size=13, mode="linear", of=SERIES),
    call("Upsample", size=(5, 9), mode="bilinear", of=IMAGE),
    call("Upsample", scale_factor=(1.5, 2.0), mode="bilinear", align_corners=True, of=IMAGE),
    call("Upsample", size=(5, 9), mode="nearest-exact", of=IMAGE),
    # -- distances
    call("CosineSimilarity", of=(normal(3, 5), normal(3, 5))),
    call("CosineSimilarity", dim=-2, of=(normal(3, 5, 2), normal(3, 5, 2))),
    call("PairwiseDistance", of=(normal(3, 5), normal(3, 5))),
    call("PairwiseDistance", p=1.5, keepdim=True, of=(normal(3, 5), normal(3, 5))),
    call("F.normalize", of=ROWS),
    call("F.normalize", p=3.0, dim=0, of=ROWS),
    # -- normalisation
    call("BatchNorm1d", 6, of=ROWS, training=True),
    call("BatchNorm1d", 6, of=ROWS, training=False),
    call("BatchNorm1d", 4, momentum=0.3, eps=1e-3, of=SERIES, training=True, calls=3),
    call("BatchNorm1d", 6, affine=False, momentum=None, of=ROWS, training=True, calls=3),
    call("BatchNorm1d", 6, track_running_stats=False, of=ROWS, training=False),
    call("BatchNorm2d", 4, of=IMAGE, training=True),
    call("BatchNorm2d", 4, of=IMAGE, training=False),
    call("LayerNorm", 6, of=ROWS),
    call("LayerNorm", (7, 6), eps=1e-3, of=IMAGE),
    call("LayerNorm", 6, bias=False, of=ROWS),
    call("LayerNorm", 6, elementwise_affine=False, of=ROWS),
    call("RMSNorm", 6, of=ROWS),
    call("RMSNorm", (7, 6), eps=1e-3, of=IMAGE),
    call("RMSNorm", 6, eps=1e-5, elementwise_affine=False, of=ROWS),
    call("GroupNorm", 2, 4, of=IMAGE),
    call("GroupNorm", 4, 4, eps=1e-3, affine=False, of=SERIES),
    call("GroupNorm", 1, 6, of=ROWS),
    call("InstanceNorm1d", 4, of=SERIES),
    call("InstanceNorm1d", 4, affine=True, track_running_stats=True, of=SERIES, training=True, calls=2),
    call("InstanceNorm1d", 4, affine=True, track_running_stats=True, of=SERIES, training=False),
    call("InstanceNorm2d", 4, of=IMAGE),
    call("InstanceNorm2d", 4, affine=True, of=normal(4, 7, 6), note="no batch"),
    call("InstanceNorm2d", 4, momentum=0.3, track_running_stats=True, of=IMAGE, training=True),
    call("LocalResponseNorm", 3, alpha=0.5, beta=0.6, k=2.0, of=IMAGE),
    call("LocalResponseNorm", 2, of=SERIES),
    # -- activations
    call("ReLU", of=spread(4, 6)),
    call("ReLU6", of=normal(4, 6, scale=4.0)),
    call("LeakyReLU", of=spread(4, 6)),
    call("LeakyReLU", 0.3, of=spread(4, 6)),
    call("PReLU", of=spread(4, 6)),
    call("PReLU", 3, init=0.1, of=spread(2, 3, 4)),
    call("ELU", of=spread(4, 6)),
    call("ELU", 0.7, of=spread(4, 6)),
    call("CELU", of=spread(4, 6)),
    # PyTorch's kernel rounds 1 / 0.7 to float32, whatever the dtype.
    call("CELU", 0.7, of=spread(4, 6), torch_off=1e-8),
    call("SELU", of=spread(4, 6)),
    call("GELU", of=spread(4, 6)),
    call("GELU", approximate="tanh", of=spread(4, 6)),
    call("SiLU", of=spread(4, 6)),
    call("Mish", of=spread(4, 6)),
    call("Sigmoid", of=spread(4, 6)),
    call("LogSigmoid", of=spread(4, 6)),
    call("Tanh", of=spread(4, 6)),
    call("Tanhshrink", of=spread(4, 6)),
    call("Softplus", of=spread(4, 6)),
    call("Softsign", of=spread(4, 6)),
    call("Softshrink", of=spread(4, 6)),
    call("Softshrink", 1.2, of=spread(4, 6)),
    call("Hardshrink", of=spread(4, 6)),
    call("Hardshrink", 1.2, of=spread(4, 6)),
    # PyTorch's kernel rounds 1 / 6 to float32, whatever the dtype.
    call("Hardsigmoid", of=normal(4, 6, scale=3.0), torch_off=1e-8),
    call("Hardswish", of=normal(4, 6, scale=3.0)),
    call("Hardtanh", of=spread(4, 6)),
    call("Hardtanh", -2.0, 0.5, of=spread(4, 6)),
    call("Threshold", 0.4, -7.0, of=spread(4, 6)),
    call("GLU", of=ROWS),
    call("GLU", 0, of=ROWS),
    call("Softmax", -1, of=ROWS),
    call("Softmax", 1, of=normal(2, 5, 3)),
    call("Softmin", 0, of=ROWS),
    call("LogSoftmax", -1, of=ROWS),
    call("Dropout", 0.4, of=ROWS, training=False),
    call("Dropout", 0.0, of=ROWS, training=True),
    call("Dropout1d", 0.4, of=SERIES, training=False),
    call("Dropout2d", 0.4, of=IMAGE, training=False),
    # -- losses
    call("MSELoss", of=PAIR),
    call("MSELoss", reduction="sum", of=PAIR),
    call("MSELoss", reduction="none", of=(normal(3, 5), normal(3, 5))),
    call("L1Loss", of=PAIR),
    call("L1Loss", reduction="sum", of=(normal(3, 5), normal(3, 5))),
    call("L1Loss", reduction="none", of=PAIR),
    call("HuberLoss", of=PAIR),
    call("HuberLoss", reduction="sum", delta=0.5, of=PAIR),
    call("HuberLoss", reduction="none", delta=1.5, of=(normal(3, 5), normal(3, 5))),
    call("SmoothL1Loss", of=PAIR),
    call("SmoothL1Loss", reduction="sum", beta=0.5, of=PAIR),
    call("SmoothL1Loss", reduction="none", beta=1.5, of=(normal(3, 5), normal(3, 5))),
    call("SmoothL1Loss", beta=0.0, of=PAIR),
    call("KLDivLoss", reduction="sum", of=(normal(3, 5), simplex(3, 5))),
    call("KLDivLoss", reduction="mean", log_target=True, of=(normal(3, 5), simplex(3, 5, log=True))),
    call("KLDivLoss", reduction="none", of=(normal(3, 5), simplex(3, 5))),
    call("KLDivLoss", reduction="batchmean", of=(normal(3, 5), simplex(3, 5))),
    call("BCELoss", of=(unit(3, 5, grad=True), unit(3, 5))),
    call("BCELoss", reduction="sum", of=(unit(3, 5, grad=True), unit(3, 5))),
    call("BCELoss", weight=Values(0.5, 2.0, 1.0, 0.0, 3.0), reduction="none", of=(unit(3, 5, grad=True), unit(3, 5))),
    call("BCEWithLogitsLoss", of=(normal(3, 5), unit(3, 5))),
    call("BCEWithLogitsLoss", reduction="sum", of=(normal(3, 5), unit(3, 5))),
    call("BCEWithLogitsLoss", reduction="none", of=(normal(3, 5), unit(3, 5))),
    call(
        "BCEWithLogitsLoss",
        weight=Values(0.5, 2.0, 1.0, 0.0, 3.0),
        pos_weight=Values(2.0, 1.0, 0.5, 4.0, 1.0),
        of=(normal(3, 5), unit(3, 5)),
    ),
    call("NLLLoss", of=SCORES),
    call("NLLLoss", reduction="sum", weight=Values(0.5, 2.0, 1.0, 3.0), of=SCORES),
    call("NLLLoss", reduction="none", weight=Values(0.5, 2.0, 1.0, 3.0), of=SCORES),
    call("NLLLoss", weight=Values(0.5, 2.0, 1.0, 3.0), ignore_index=1, of=(normal(5, 4), exactly(1, 0, 3, 1, 2))),
    call("NLLLoss", of=(normal(2, 4, 3), ints(4, 2, 3)), note="sequence"),
    call("CrossEntropyLoss", of=SCORES),
    call("CrossEntropyLoss", reduction="sum", of=SCORES),
    call("CrossEntropyLoss", reduction="none", of=SCORES),
    call("CrossEntropyLoss", label_smoothing=0.1, of=SCORES),
    call("CrossEntropyLoss", weight=Values(0.5, 2.0, 1.0, 3.0), of=SCORES),
    call("CrossEntropyLoss", weight=Values(0.5, 2.0, 1.0, 3.0), label_smoothing=0.2, of=SCORES),
    call("CrossEntropyLoss", weight=Values(0.5, 2.0, 1.0, 3.0), label_smoothing=0.2, reduction="none", of=SCORES),
    call("CrossEntropyLoss", ignore_index=1, label_smoothing=0.2, of=(normal(5, 4), exactly(1, 0, 3, 1, 2))),
    call(
        "CrossEntropyLoss",
        weight=Values(0.5, 2.0, 1.0, 3.0),
        ignore_index=1,
        of=(normal(5, 4), exactly(1, 0, 3, 1, 2)),
    ),
    call("CrossEntropyLoss", of=(normal(2, 4, 3), ints(4, 2, 3)), note="sequence"),
    call("CrossEntropyLoss", of=(normal(5, 4), simplex(5, 4)), note="probabilities"),
    call("CrossEntropyLoss", label_smoothing=0.1, of=(normal(5, 4), simplex(5, 4)), note="probabilities"),
    # -- functions that no module stands for
    call("F.one_hot", 4, of=ints(4, 2, 3)),
    call("F.pad", (1, 2), of=ROWS),
    call("F.pad", (1, 2, 0, 1), "constant", 0.5, of=IMAGE),
    call("F.pad", (1, 2, 3, 0), "reflect", of=IMAGE),
    call("F.pad", (1, 2, 3, 0), "replicate", of=IMAGE),
    call("F.pad", (1, 2), "circular", of=SERIES),
    call("F.unfold", (3, 2), dilation=(1, 2), padding=1, stride=2, of=IMAGE),
]


@dataclass(frozen=True)
class Path:
    """100 steps of `optim.<name>(parameters, **kwargs)` down the loss of `problem`."""

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Settings of the second parameter group; None: all parameters are in one.
    second: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        words = [f"{k}={v!r}" for k, v in self.kwargs.items()]
        if self.second is not None:
            words.append(f"second group {self.second}")
        return f"{self.name}({', '.join(words)})"


def path(name: str, second: dict[str, Any] | None = None, **kwargs: Any) -> Path:
    """A path: `path("SGD", lr=0.1)`."""
    return Path(name, kwargs, second)


STEPS = 100
#: After these steps the parameters are compared.
SEEN = (1, 2, 3, 10, 30, 100)

OPTIMIZERS: list[Path] = [
    path("SGD", lr=0.1),
    path("SGD", lr=0.1, weight_decay=0.02),
    path("SGD", lr=0.05, momentum=0.9),
    path("SGD", lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    path("SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    path("SGD", lr=0.01, momentum=0.5, maximize=True),
    path("SGD", lr=0.1, momentum=0.5, second={"lr": 0.02, "weight_decay": 0.1}),
    path("Adam", lr=0.02),
    path("Adam", lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.05),
    path("Adam", lr=0.005, maximize=True),
    path("Adam", lr=0.02, second={"lr": 0.001, "betas": (0.5, 0.9)}),
    path("AdamW", lr=0.02),
    path("AdamW", lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.2),
    path("AdamW", lr=0.005, weight_decay=0.0, maximize=True),
    path("RMSprop", lr=0.005),
    path("RMSprop", lr=0.005, alpha=0.9, eps=1e-4, weight_decay=0.05),
    path("RMSprop", lr=0.002, momentum=0.9),
    path("RMSprop", lr=0.002, centered=True, eps=1e-3),
    path("RMSprop", lr=0.001, momentum=0.5, centered=True, eps=1e-3, second={"lr": 0.002, "alpha": 0.9}),
    path("RMSprop", lr=0.002, maximize=True),
]


def problem() -> dict[str, Array]:
    """A small regression, `mean((tanh(x w + b) v - y)^2)`: not convex, and with gradients of several sizes."""
    rng = np.random.default_rng(20)
    return {
        "x": rng.normal(size=(8, 4)),
        "y": rng.normal(size=(8, 2)),
        "w": rng.normal(size=(4, 5)) * 0.5,
        "b": rng.normal(size=(5,)) * 0.1,
        "v": rng.normal(size=(5, 2)) * 0.5,
    }
