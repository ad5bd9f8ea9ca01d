"""Wrong calls of every public function: valid calls, a few arguments of which are replaced by something hostile.

A call starts as one that works (a sample of `op_table`, a case of the golden values, or one of `MORE` below), because a
call of nothing but nonsense never gets beyond the check of its first argument. `test_bad_calls.py` draws and judges.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import corten as ct
from corten import _core, nn
from corten.nn import functional as F
from golden import cases
from harness import bind
from op_table import Sample, rows

Tensor = _core.Tensor


@dataclass(frozen=True)
class Call:
    """A call that works: `fn(*args, **kwargs)`. Arguments are made anew for each use."""

    name: str
    fn: Callable[..., Any]
    make: Callable[[], tuple[list[Any], dict[str, Any]]]
    #: What an op_table sample says, so that a result can be compared with the row's formula.
    row: str | None = None
    label: str = ""
    #: The first argument is what the method belongs to: always a tensor.
    receiver: bool = False


@dataclass
class Odd:
    """A hostile value: `make` builds it anew, `text` is how a failure shows it."""

    text: str
    make: Callable[[], Any] = field(repr=False)


def odd(expression: str) -> Odd:
    """A hostile value as the text that makes it, so that a failure can be typed in again."""
    names = {"ct": ct, "np": np, "math": math}
    code = compile(expression, "<odd>", "eval")
    return Odd(expression, lambda: eval(code, names))


# Sizes are at most 7 or absurd: what lies between might succeed, and take all memory.
INTS = [
    odd(t)
    for t in ["-2**70", "-2**63", "-9", "-2", "-1", "0", "1", "2", "3", "5", "7", "2**62", "2**63-1", "2**63", "True"]
]
FLOATS = [odd(t) for t in ["math.nan", "math.inf", "-math.inf", "-1.0", "0.0", "-0.0", "0.5", "2.5", "1e30", "5e-324"]]
TENSORS = [
    odd(t)
    for t in (
        "ct.tensor(2.5)",
        "ct.tensor(-3)",
        "ct.zeros(0)",
        "ct.zeros((0, 3))",
        "ct.zeros((3, 0, 2), dtype='int64')",
        "ct.ones(1)",
        "ct.ones(5)",
        "ct.ones((2, 3))",
        "ct.ones((2, 3, 4))",
        "ct.ones((1, 2, 5, 5))",
        "ct.ones((1, 1, 2, 2, 2))",
        "ct.ones((2, 3), dtype='float64')",
        "ct.ones((2, 3, 4, 4), dtype='float64')",
        "ct.full((2, 3), math.nan)",
        "ct.full(4, math.inf, dtype='float64')",
        "ct.tensor([0, -1, 7])",
        "ct.tensor([-2**63, 2**63 - 1])",
        "ct.arange(6).reshape(2, 3)",
        "ct.tensor([[1, 0], [300, -7]], dtype='int16')",
        "ct.zeros(3, dtype='uint8')",
        "ct.tensor([True, False, True])",
        "ct.zeros((2, 3), dtype='bool')",
        "ct.ones((2, 3), device='reference')",
        "ct.ones((3, 4), dtype='float64').T",
        "ct.ones((2, 6))[:, ::-2]",
        "ct.broadcast_to(ct.ones(1), (4, 3))",
        "ct.ones((2, 3), requires_grad=True)",
    )
]
ARRAYS = [
    odd(t)
    for t in (
        "np.ones((2, 3))",
        "np.float32(2.0)",
        "np.int64(1)",
        "np.zeros(2, np.uint16)",
        "np.zeros(2, complex)",
        "np.array([None, 'a'], object)",
        "np.array(['a'])",
    )
]
SEQUENCES = [
    odd(t)
    for t in (
        "()",
        "[]",
        "(-1,)",
        "(0,)",
        "(1, 2)",
        "[2, 3]",
        "(2, -1)",
        "(1, 2, 3)",
        "(2**62, 2**62)",
        "(2**70,)",
        "(0, 0)",
        "(1.5, 2)",
        "('a', 'b')",
        "(None, 1)",
        "[[1], [2, 3]]",
        "[ct.ones(2), ct.ones((2, 3))]",
        "[ct.ones(2), 3]",
        "range(2)",
    )
]
TEXTS = [
    odd(t) for t in ("''", "'mean'", "'nonsense'", "'cpu'", "'cuda'", "'same'", "'float8'", "'ij,jk->ik'", "'é\\n'")
]
OTHERS = [
    odd(t) for t in ("None", "object()", "{}", "{'a': 1}", "1j", "b'ab'", "int", "len", "...", "slice(1)", "set()")
]
EVERYTHING = [*INTS, *FLOATS, *TENSORS, *ARRAYS, *SEQUENCES, *TEXTS, *OTHERS]


def like(value: Any) -> Sequence[Odd]:
    """Hostile values of the kind of a valid one."""
    if isinstance(value, Tensor):
        return TENSORS
    if isinstance(value, bool):
        return [*INTS, *FLOATS]
    if isinstance(value, int):
        return INTS
    if isinstance(value, float):
        return [*FLOATS, *INTS]
    if isinstance(value, str):
        return TEXTS
    if isinstance(value, list | tuple):
        return SEQUENCES
    return EVERYTHING


# -- valid calls


def of_sample(name: str, fn: Callable[..., Any], sample: Sample, row: str | None) -> Call:
    def make() -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = bind(sample, lambda array, _: _core.tensor(array))
        return list(args), dict(kwargs)

    return Call(name, fn, make, row, sample.label)


def method(name: str) -> Callable[..., Any]:
    """`Tensor.name` with the tensor as first argument."""
    return getattr(Tensor, name)


def from_rows() -> list[Call]:
    found = []
    for name, row in rows().items():
        for sample in row.cases():
            if sample.big:
                continue
            if row.call is not None:  # the row's own function, not corten's: `MORE` has these
                continue
            found.append(of_sample(name, getattr(_core, name), sample, name))
            if isinstance(sample.args[0], np.ndarray) and hasattr(Tensor, name):
                found.append(replace(of_sample(f"Tensor.{name}", method(name), sample, None), receiver=True))
    return found


def from_golden() -> list[Call]:
    """Modules (constructor, then forward) and functions, as the golden values call them."""

    def convert(value: Any) -> Any:
        if isinstance(value, cases.Built):
            return getattr(nn, value.name)(*value.args, **value.kwargs)
        if isinstance(value, cases.Bools):
            return _core.tensor(value.array())
        return _core.tensor(value.values) if isinstance(value, cases.Values) else value

    def inputs(case: cases.Case) -> list[Any]:
        rng = case.rng()
        arrays = [spec.draw(rng) for spec in case.inputs]
        return [_core.tensor(a.astype("float32") if a.dtype.kind == "f" else a) for a in arrays]

    found = []
    for case in cases.LAYERS:
        kwargs = {k: convert(v) for k, v in case.kwargs.items()}
        args = [convert(a) for a in case.args]
        if case.function:

            def make(case=case, args=args, kwargs=kwargs):
                return [*inputs(case), *args], dict(kwargs)

            found.append(Call(f"F.{case.name}", getattr(F, case.name), make))
            continue
        cls = getattr(nn, case.name)
        found.append(Call(f"nn.{case.name}", cls, lambda args=args, kwargs=kwargs: (list(args), dict(kwargs))))

        def forward(*xs: Any, cls=cls, args=args, kwargs=kwargs, training=case.training, **how: Any) -> Any:
            module = cls(*args, **kwargs)
            return (module if training is None else module.train(training))(*xs, **how)

        found.append(
            Call(
                f"nn.{case.name}.forward",
                forward,
                lambda case=case: (inputs(case), {k: convert(v) for k, v in case.how.items()}),
            )
        )
    return found


def ones(*shape: int, **kwargs: Any) -> Tensor:
    return _core.ones(shape, **kwargs)


def functional() -> list[Call]:
    """One call of each function of nn.functional, to reach also those that modules call."""
    x, image, series = lambda: ones(2, 4), lambda: ones(2, 4, 7, 6), lambda: ones(2, 4, 9)
    target = lambda: _core.tensor([1, 0])  # noqa: E731 - one line of several of a kind
    calls: dict[str, Callable[[], tuple[list[Any], dict[str, Any]]]] = {
        "adaptive_avg_pool1d": lambda: ([series(), 2], {}),
        "adaptive_avg_pool2d": lambda: ([image(), (2, 3)], {}),
        "avg_pool1d": lambda: ([series(), 3, 2, 1], {"ceil_mode": False, "count_include_pad": True}),
        "avg_pool2d": lambda: ([image(), 3, 2, 1], {"ceil_mode": False, "count_include_pad": True}),
        "batch_norm": lambda: (
            [x(), ones(4), ones(4), ones(4), ones(4)],
            {"training": True, "momentum": 0.1, "eps": 1e-5},
        ),
        "binary_cross_entropy": lambda: ([x(), x()], {"weight": ones(4), "reduction": "mean"}),
        "binary_cross_entropy_with_logits": lambda: ([x(), x()], {"reduction": "mean"}),
        "conv1d": lambda: ([series(), ones(6, 2, 3), ones(6)], {"stride": 1, "padding": 1, "dilation": 1, "groups": 2}),
        "conv2d": lambda: (
            [image(), ones(6, 2, 3, 3), ones(6)],
            {"stride": 1, "padding": 1, "dilation": 1, "groups": 2},
        ),
        "cross_entropy": lambda: (
            [x(), target()],
            {"weight": ones(4), "ignore_index": -100, "reduction": "mean", "label_smoothing": 0.1},
        ),
        "adaptive_max_pool1d": lambda: ([series(), 2], {}),
        "adaptive_max_pool2d": lambda: ([image(), (2, 3)], {}),
        "lp_pool1d": lambda: ([series(), 2.0, 3, 2], {"ceil_mode": False}),
        "lp_pool2d": lambda: ([image(), 2.0, 3, 2], {"ceil_mode": False}),
        "conv_transpose1d": lambda: ([series(), ones(4, 3, 3), ones(6)], {"stride": 2, "padding": 1, "groups": 2}),
        "conv_transpose2d": lambda: ([image(), ones(4, 3, 3, 3), ones(6), 2, 1], {"output_padding": 1, "groups": 2}),
        "cosine_similarity": lambda: ([x(), x()], {"dim": 1, "eps": 1e-8}),
        "pairwise_distance": lambda: ([x(), x()], {"p": 2.0, "eps": 1e-6, "keepdim": False}),
        "normalize": lambda: ([x()], {"p": 2.0, "dim": 1, "eps": 1e-12}),
        "dropout1d": lambda: ([series()], {"p": 0.5, "training": True}),
        "dropout2d": lambda: ([image()], {"p": 0.5, "training": True}),
        "fold": lambda: ([ones(2, 12, 8), (5, 4), 2], {"dilation": 1, "padding": 0, "stride": (1, 2)}),
        "interpolate": lambda: ([image(), (5, 9)], {"mode": "bilinear", "align_corners": False}),
        "pixel_shuffle": lambda: ([image(), 2], {}),
        "pixel_unshuffle": lambda: ([ones(2, 3, 4, 6), 2], {}),
        "dropout": lambda: ([x()], {"p": 0.5, "training": True}),
        "embedding": lambda: ([target(), ones(3, 2)], {"padding_idx": 1}),
        "flatten": lambda: ([image(), 1, -1], {}),
        "gelu": lambda: ([x()], {"approximate": "none"}),
        "glu": lambda: ([x(), -1], {}),
        "group_norm": lambda: ([image(), 2, ones(4), ones(4), 1e-5], {}),
        "huber_loss": lambda: ([x(), x()], {"reduction": "mean", "delta": 1.0}),
        "instance_norm": lambda: ([image()], {"weight": ones(4), "bias": ones(4), "eps": 1e-5}),
        "kl_div": lambda: ([x(), x()], {"reduction": "mean", "log_target": False}),
        "layer_norm": lambda: ([x(), (4,), ones(4), ones(4), 1e-5], {}),
        "linear": lambda: ([x(), ones(3, 4), ones(3)], {}),
        "scaled_dot_product_attention": lambda: (
            [ones(2, 4, 3, 2), ones(2, 2, 5, 2), ones(2, 2, 5, 2), ones(3, 5), 0.1, False, 0.5, True],
            {"lengths": _core.tensor([5, 2]), "window": (2, 3), "offset": 1},
        ),
        "attention_weights": lambda: (
            [ones(2, 4, 3, 2), ones(2, 2, 5, 2), ones(3, 5), 0.1, False, 0.5, True],
            {"lengths": _core.tensor([5, 2]), "window": 2, "offset": 1},
        ),
        "local_response_norm": lambda: ([image(), 3, 1e-4, 0.75, 1.0], {}),
        "max_pool1d": lambda: ([series(), 3, 2, 1], {"dilation": 1, "ceil_mode": False}),
        "max_pool2d": lambda: ([image(), 3, 2, 1], {"dilation": 1, "ceil_mode": False}),
        "nll_loss": lambda: ([x(), target()], {"weight": ones(4), "ignore_index": -100, "reduction": "mean"}),
        "one_hot": lambda: ([target(), 3], {}),
        "pad": lambda: ([image(), (1, 2), "constant", 0.0], {}),
        "prelu": lambda: ([x(), ones(4)], {}),
        "rnn": lambda: ([ones(3, 2, 4), [ones(5, 4), ones(5, 5)], ones(1, 2, 5), [3, 2]], {"activation": "tanh"}),
        "lstm": lambda: (
            [ones(3, 2, 4), [ones(20, 4), ones(20, 5)], ones(1, 2, 5), ones(1, 2, 5), [3, 2]],
            {"batch_first": False, "bidirectional": False, "forget": "gate"},
        ),
        "gru": lambda: ([ones(3, 2, 4), [ones(15, 4), ones(15, 5)], ones(1, 2, 5), [3, 2]], {"reset": "after"}),
        "rms_norm": lambda: ([x(), (4,), ones(4), 1e-5], {}),
        "smooth_l1_loss": lambda: ([x(), x()], {"reduction": "mean", "beta": 1.0}),
        "threshold": lambda: ([x(), 0.5, 1.0], {}),
        "unfold": lambda: ([image(), 3], {"dilation": 1, "padding": 0, "stride": 1}),
    }
    for name in ("softmax", "log_softmax", "softmin"):
        calls[name] = lambda: ([x(), -1], {})
    for name in ("leaky_relu", "elu", "celu", "hardshrink", "softshrink"):
        calls[name] = lambda: ([x(), 0.3], {})
    for name in ("mse_loss", "l1_loss"):
        calls[name] = lambda: ([x(), x()], {"reduction": "mean"})
    calls["hardtanh"] = lambda: ([x(), -1.0, 1.0], {})
    return [Call(f"F.{name}", getattr(F, name), calls.get(name, lambda: ([x()], {}))) for name in F.__all__]


def more() -> list[Call]:
    """What neither rows nor golden values call: creation, state, the graph, methods, optimizers, data, files, init."""

    def of(name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
        """Arguments that are functions without a name are called for each use: tensors are made anew."""

        def fresh(v: Any) -> Any:
            return v() if getattr(v, "__name__", "") == "<lambda>" else v

        def make() -> tuple[list[Any], dict[str, Any]]:
            return [fresh(a) for a in args], {k: fresh(v) for k, v in kwargs.items()}

        return Call(name, fn, make, receiver=name.startswith("Tensor.") or name == "getitem" or fn in (backward, grad))

    x = lambda: ones(2, 3)  # noqa: E731 - one line of several of a kind
    leaf = lambda: ones(2, 3, requires_grad=True)  # noqa: E731
    doubles = lambda: [ones(2, dtype="float64", requires_grad=True)]  # noqa: E731
    leaves = lambda: [ones(2, 3, requires_grad=True)]  # noqa: E731

    def backward(x: Any, *args: Any, **kwargs: Any) -> Any:
        (x * 2).backward(*args, **kwargs)

    def grad(a: Any, *args: Any, **kwargs: Any) -> Any:
        return ct.grad(a * 2, a, *args, **kwargs)

    calls = [
        of("nn.LayerNormLSTMCell", nn.LayerNormLSTMCell, 3, 4, dtype="float32", device="cpu"),
        of("nn.ProjectedLSTMCell", nn.ProjectedLSTMCell, 3, 4, 2, True, dtype="float32", device="cpu"),
        of("nn.Scan", nn.Scan, lambda: nn.GRUCell(3, 4), False, reverse=False),
        of("nn.Scan.forward", nn.Scan(nn.GRUCell(3, 4)), lambda: ones(5, 2, 3), lambda: ones(2, 4), [5, 2]),
        of("nn.Zoneout", nn.Zoneout, lambda: nn.GRUCell(3, 4), 0.1),
        of("nn.VariationalDropout", nn.VariationalDropout, lambda: nn.GRUCell(3, 4), 0.1, 0.2),
        of("tensor", ct.tensor, [[1.0, 2.0], [3.0, 4.0]], "float32", False, "cpu"),
        of("tensor", ct.tensor, 5, dtype="int64"),
        of("tensor", ct.tensor, math.nan, dtype="int32"),
        of("asarray", ct.asarray, [1, 2], None, None, "cpu"),
        of("from_numpy", ct.from_numpy, lambda: np.ones(2)),
        of("from_dlpack", ct.from_dlpack, lambda: np.ones(2), device=None, copy=None),
        of("Tensor.unsqueeze", method("unsqueeze"), x, 1),
        of("Tensor.view", method("view"), x, "int32"),
        of("finfo", ct.finfo, "float32"),
        of("iinfo", ct.iinfo, "int32"),
        of("Tensor.to_device", method("to_device"), x, "cpu"),
        of("zeros", ct.zeros, (2, 3), "float32", False, "cpu"),
        of("ones", ct.ones, (2, 3), "float32", False, "cpu"),
        of("full", ct.full, (2, 3), 1.5, "float32", False, "cpu"),
        of("zeros_like", ct.zeros_like, x, "int64"),
        of("ones_like", ct.ones_like, x, "int64"),
        of("full_like", ct.full_like, x, 2, "int64"),
        of("arange", ct.arange, 0, 5, 2, "int64", "cpu"),
        of("arange", ct.arange, 0.0, 1.0, 0.25),
        of("linspace", ct.linspace, 0.0, 1.0, 5, "float32", True, "cpu"),
        of("eye", ct.eye, 3, 4, 1, "float32", "cpu"),
        of("rand", ct.rand, 2, 3, dtype="float32", requires_grad=False, device="cpu"),
        of("randn", ct.randn, (2, 3), dtype="float64"),
        of("randint", ct.randint, 0, 5, (2, 3), "int64", "cpu"),
        of("uniform", ct.uniform, (2, 3), 0.0, 1.0, "float32", "cpu"),
        of("normal", ct.normal, (2, 3), 0.0, 1.0, "float32", "cpu"),
        of("manual_seed", ct.manual_seed, 3),
        of("set_rng_state", ct.set_rng_state, (1, 2)),
        of("grad", grad, leaf, x, None, False, False),
        of("grad", ct.grad, leaf, leaf, allow_unused=True),
        of("dropout", _core.dropout, x, 0.5, True),
        of("getitem", Tensor.__getitem__, x, (0, slice(0, 2))),
        of("sgd_step", _core.sgd_step, leaves, lambda: [x()], None, lr=0.1, momentum=0.0),
        of("adam_step", _core.adam_step, leaves, lambda: [x()], lambda: [x()], lambda: [x()], step=1, lr=0.1),
        of(
            "rmsprop_step",
            _core.rmsprop_step,
            leaves,
            lambda: [x()],
            lambda: [x()],
            lambda: [x()],
            None,
            lr=0.1,
            eps=1e-8,
        ),
        of(
            "gradcheck",
            ct.testing.gradcheck,
            lambda: ct.sin,
            doubles,
            eps=1e-6,
        ),
        of("Tensor.backward", backward, leaf, x, False, False),
        of("Tensor.requires_grad_", method("requires_grad_"), x, True),
        of("Tensor.detach", method("detach"), x),
        of("Tensor.clone", method("clone"), x),
        of("Tensor.contiguous", method("contiguous"), x),
        of("Tensor.retain_grad", method("retain_grad"), leaf),
        of("Tensor.register_hook", method("register_hook"), leaf, lambda: len),
        of("Tensor.remove_hook", method("remove_hook"), leaf, 3),
        of("Tensor.numpy", method("numpy"), x),
        of("Tensor.item", method("item"), lambda: ones(1)),
        of("Tensor.tolist", method("tolist"), x),
        of("Tensor.to", method("to"), x, "float64"),
        of("Tensor.astype", method("astype"), x, "float64"),
        of("Tensor.assign_", method("assign_"), x, x),
        of("Tensor.reshape", method("reshape"), x, 3, 2),
        of("Tensor.permute", method("permute"), x, 1, 0),
        of("Tensor.expand", method("expand"), lambda: ones(1, 3), 2, -1),
        of("Tensor.cumsum", method("cumsum"), x, 1),
        of("Tensor.cumprod", method("cumprod"), x, axis=1),
        of("Tensor.sum", method("sum"), x, 1, True, dim=None, keepdim=None),
        of("Tensor.argmax", method("argmax"), x, dim=1, keepdim=True),
        of("Tensor.grad", Tensor.grad.__set__, leaf, x),
        of("Tensor.requires_grad", Tensor.requires_grad.__set__, x, True),
        of("SGD", ct.optim.SGD, leaves, 0.1, 0.9, 0.0, 0.01, True, maximize=False),
        of("Adam", ct.optim.Adam, leaves, 0.1, (0.9, 0.99), 1e-8, 0.01, maximize=False),
        of("AdamW", ct.optim.AdamW, leaves, 0.1, (0.9, 0.99), 1e-8, 0.01, maximize=False),
        of("RMSprop", ct.optim.RMSprop, leaves, 0.1, 0.9, 1e-8, 0.01, 0.9, True, maximize=False),
        of("TensorDataset", ct.data.TensorDataset, x, x),
        of("DataLoader", loaded, x, 2, shuffle=True, drop_last=False),
        of("Subset", ct.data.Subset, lambda: ct.data.TensorDataset(x()), [0, 1]),
        of("RandomSampler", ct.data.RandomSampler, x, 3),
        of("SequentialSampler", ct.data.SequentialSampler, x),
        of("default_collate", ct.data.default_collate, lambda: [x(), x()]),
        of("LeNet5", ct.models.LeNet5),
        of("GPT", ct.models.GPT, 7, 5, 4, 1, 2, 0.1, 1e-5),
        of("KVCache", ct.models.KVCache, 1, 2, 2, 3, 2),
        of("Transformer", ct.models.Transformer, 7, 7, 4, 2, 1, 5, 0.1, False, "relu", True),
        of("Seq2Seq", ct.models.Seq2Seq, 7, 5, 3, 2, 0.1),
        of("pad_sequences", ct.text.pad_sequences, [[1, 2], [3]], 0, 3, left=True),
        of("padding_mask", ct.text.padding_mask, lambda: _core.tensor([1, 2]), 3),
        of("causal_mask", ct.text.causal_mask, 2, 3, 1),
    ]
    batch = lambda size=4: ones(2, 3, size)  # noqa: E731
    looks = {"mask": lambda: ones(3, 3, dtype="bool"), "lengths": lambda: _core.tensor([3, 1])}
    for make, args in (
        (nn.DotProductAttention, (True,)),
        (nn.BilinearAttention, (4, 4)),
        (nn.AdditiveAttention, (4, 4, 5)),
        (nn.NadarayaWatson, (0.5, True)),
    ):
        name = f"nn.{make.__name__}"
        calls.append(of(name, make, *args))
        calls.append(of(f"{name}.forward", make(*args).forward, batch, batch, batch, **looks))
    for make, args in (
        (nn.SinusoidalPositions, (4, 100.0)),
        (nn.LearnedPositions, (9, 4)),
        (nn.RotaryPositions, (4, 100.0)),
        (nn.FeedForward, (4, 5, "swiglu", 0.1, True)),
    ):
        name = f"nn.{make.__name__}"
        calls.append(of(name, make, *args))
        calls.append(of(f"{name}.forward", make(*args).forward, batch))
    for make, args in ((nn.AlibiBias, (2,)), (nn.RelativeBias, (2, 4, 8, True))):
        name = f"nn.{make.__name__}"
        calls.append(of(name, make, *args))
        calls.append(of(f"{name}.forward", make(*args).forward, 2, 3, 1))
    for name, args in {
        "constant_": (1.0,),
        "normal_": (0.0, 1.0),
        "uniform_": (0.0, 1.0),
        "orthogonal_": (1.0,),
        "xavier_normal_": (1.0,),
        "xavier_uniform_": (1.0,),
        "kaiming_normal_": (0.0, "fan_in", "relu"),
        "kaiming_uniform_": (0.0, "fan_in", "relu"),
        "ones_": (),
        "zeros_": (),
    }.items():
        calls.append(of(f"init.{name}", getattr(nn.init, name), x, *args))
    mask = lambda: ones(2, 3, dtype="bool")  # noqa: E731
    calls += [of(f"Tensor.logical_{name}", method(f"logical_{name}"), mask, mask) for name in ("and", "or", "xor")]
    for name in ("GlobalAvgPool1d", "GlobalMaxPool1d", "GlobalAvgPool2d", "GlobalMaxPool2d"):
        make = getattr(nn, name)
        calls.append(of(f"nn.{name}", make, keepdims=True))
        images = name.endswith("2d")
        shape = (2, 3, 4, 5) if images else (2, 3, 4)
        calls.append(of(f"nn.{name}.forward", make().forward, lambda shape=shape: ones(*shape)))
    calls.append(of("Tensor.logical_not", method("logical_not"), mask))
    calls.append(of("init.calculate_gain", nn.init.calculate_gain, "leaky_relu", 0.2))
    return calls


def loaded(*args: Any, **kwargs: Any) -> Any:
    """A loader over a dataset of its own, and its batches."""
    x, *args = args
    return [batch[0] for batch in ct.data.DataLoader(ct.data.TensorDataset(x), *args, **kwargs)]


#: Public functions that are not called wrongly here, and why.
LEFT_OUT = {
    "InternalError": "an exception",
    "Tensor": "is not constructed",
    "dtype": "is not constructed",
    "no_grad": "takes no arguments",
    "enable_grad": "takes no arguments",
    "get_num_threads": "takes no arguments",
    "get_rng_state": "takes no arguments",
    "info": "takes no arguments",
    "is_grad_enabled": "takes no arguments",
    "load": "an int is an open file to Python, which the call would close",
    "load_metadata": "as load",
    "save": "as load; tests/io calls it wrongly",
    "set_grad_enabled": "changes how later calls work; in the golden messages",
    "set_num_threads": "changes how later calls work; in the golden messages",
}


def calls() -> dict[str, list[Call]]:
    """Valid calls by the name of what they call."""
    found: dict[str, list[Call]] = {}
    for one in [*from_rows(), *from_golden(), *functional(), *more()]:
        found.setdefault(one.name, []).append(one)
    return found


def signature(fn: Callable[..., Any]) -> list[str]:
    """Names of the arguments, where Python knows them."""
    try:
        return list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return []
