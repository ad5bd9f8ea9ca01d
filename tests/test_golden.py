"""Every layer, loss and optimizer against PyTorch: the values in tests/golden/ were computed there in float64.

The cases are in `golden/cases.py`; `tools/make_golden.py` writes the values (CONTRIBUTING.md says when).
"""

from __future__ import annotations

import inspect
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import corten as ct
from corten import nn
from corten.nn import functional as F
from golden import cases

GOLDEN = File(__file__).parent / "golden"
#: |corten - torch| <= tolerance * (1 + |torch|). The float64 results differ by roundings alone, some hundreds in
#: a row; those of float32 start from inputs and parameters rounded to float32.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def read(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a file, by case."""
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for key, array in load_file(GOLDEN / f"{name}.safetensors").items():
        case, _, what = key.rpartition("/")
        arrays.setdefault(case, {})[what] = array
    return arrays


LAYERS, PATHS = read("layers"), read("optimizers")


def agree(actual: ct.Tensor | None, wanted: np.ndarray, tolerance: float, what: str) -> None:
    assert actual is not None, f"{what}: corten has none"
    array = actual.detach().numpy()
    assert array.shape == wanted.shape, f"{what}: shape {array.shape}, torch has {wanted.shape}"
    error = np.abs(array - wanted) / (1 + np.abs(wanted))
    assert not error.size or error.max() <= tolerance, f"{what}: off by {error.max():.2g}, {array} for {wanted}"


def run(case: cases.Case, dtype: str) -> None:
    kept = LAYERS[case.id]
    tolerance = max(TOLERANCE[dtype], case.torch_off)

    def tensor(array: np.ndarray, grad: bool = False) -> ct.Tensor:
        return ct.tensor(array.astype(dtype) if array.dtype.kind == "f" else array, requires_grad=grad)

    def convert(value: Any) -> Any:
        if isinstance(value, cases.Bools):
            return ct.tensor(value.array())
        if isinstance(value, cases.Built):
            return getattr(nn, value.name)(*value.args, **value.kwargs, dtype=dtype)
        return ct.tensor(value.values, dtype=dtype) if isinstance(value, cases.Values) else value

    inputs = [tensor(kept[f"input.{i}"], spec.grad) for i, spec in enumerate(case.inputs)]
    args = [convert(a) for a in case.args]
    kwargs = {name: convert(value) for name, value in case.kwargs.items()}
    module = None
    if case.function:
        output = getattr(F, case.name)(*inputs, *args, **kwargs)
    else:
        cls = getattr(nn, case.name)
        if "dtype" in inspect.signature(cls).parameters:
            kwargs["dtype"] = dtype
        module = cls(*args, **kwargs)
        state = {w.removeprefix("state."): tensor(array) for w, array in kept.items() if w.startswith("state.")}
        module.load_state_dict(state)  # strict: the names are torch's
        if case.training is not None:
            module.train(case.training)
        for _ in range(case.calls):
            output = module(*inputs, **{name: convert(value) for name, value in case.how.items()})
    if isinstance(output, tuple):
        output = ct.concat([part.reshape(-1) for part in cases.flat(output)])
    agree(output, kept["output"], tolerance, "output")
    if kept["output"].dtype.kind == "f":
        assert output.dtype == dtype
    if output.requires_grad:
        output.backward(tensor(cases.cotangent(output.shape)))
    parameters = dict(module.named_parameters()) if module else {}
    buffers = module.state_dict() if module else {}
    for what, wanted in kept.items():
        kind, _, name = what.partition(".")
        if kind == "grad":
            leaf = inputs[int(name)] if name.isdigit() else parameters[name]
            agree(leaf.grad, wanted, tolerance, what)
        elif kind == "after":
            agree(buffers[name], wanted, tolerance, what)
    assert sum(w.startswith("grad.") for w in kept) == len(parameters) + sum(spec.grad for spec in case.inputs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", cases.LAYERS, ids=lambda case: case.id)
def test_layer(case: cases.Case, dtype: str) -> None:
    """Result, gradients and statistics are PyTorch's."""
    run(case, dtype)


@pytest.mark.parametrize("path", cases.OPTIMIZERS, ids=lambda path: path.id)
def test_optimizer(path: cases.Path) -> None:
    """The parameters are PyTorch's all along 100 steps, to 1e-6."""
    data = {name: ct.tensor(array) for name, array in PATHS["problem"].items()}
    params = {name: data[name].requires_grad_() for name in ("w", "b", "v")}
    groups: Any = list(params.values())
    if path.second is not None:
        groups = [{"params": groups[:2]}, {"params": groups[2:], **path.second}]
    optimizer = getattr(ct.optim, path.name)(groups, **path.kwargs)
    for step in range(1, cases.STEPS + 1):
        optimizer.zero_grad()
        loss = ((ct.tanh(data["x"] @ params["w"] + params["b"]) @ params["v"] - data["y"]) ** 2).mean()
        loss.backward()
        optimizer.step()
        if step in cases.SEEN:
            for name, p in params.items():
                agree(p, PATHS[path.id][f"{step}.{name}"], 1e-6, f"{name} after {step} steps")


# -- nothing is left out

#: Modules that compute nothing of their own, or that PyTorch does not have.
NO_GOLDEN = {
    "AdditiveAttention": "PyTorch has none",
    "AlibiBias": "PyTorch has none",
    "BilinearAttention": "PyTorch has none",
    "DotProductAttention": "PyTorch has none",
    "FeedForward": "PyTorch has none",
    "GlobalAvgPool1d": "PyTorch has none",
    "GlobalAvgPool2d": "PyTorch has none",
    "GlobalMaxPool1d": "PyTorch has none",
    "GlobalMaxPool2d": "PyTorch has none",
    "LayerNormLSTMCell": "PyTorch has none",
    "LearnedPositions": "PyTorch has none",
    "Module": "the base class",
    "NadarayaWatson": "PyTorch has none",
    "ProjectedLSTMCell": "PyTorch has a layer only; an identity makes it an LSTM, which is compared",
    "RelativeBias": "PyTorch has none",
    "RotaryPositions": "PyTorch has none",
    "Scan": "PyTorch has none",
    "Sequential": "a container",
    "SinusoidalPositions": "PyTorch has none",
    "VariationalDropout": "PyTorch has none",
    "Zoneout": "PyTorch has none",
    "ModuleList": "a container",
    "ModuleDict": "a container",
}
#: Functions whose module has another name.
MODULES = {
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "attention_weights": "MultiheadAttention",
    "batch_norm": "BatchNorm2d",
    "instance_norm": "InstanceNorm2d",
    "interpolate": "Upsample",
    "kl_div": "KLDivLoss",
}


def test_every_module_has_a_case() -> None:
    modules = {n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)}
    covered = {case.name for case in cases.LAYERS if not case.function}
    assert len(modules) > 40
    assert modules == covered | NO_GOLDEN.keys(), "add a line to tests/golden/cases.py and run tools/make_golden.py"


def test_every_function_has_a_case() -> None:
    covered = {case.name.lower() for case in cases.LAYERS}
    for name in F.__all__:
        plain = MODULES.get(name, name).lower()
        assert {plain, plain.replace("_", ""), plain.replace("_", "") + "loss"} & covered, (
            f"no golden case for F.{name}"
        )


def test_every_optimizer_has_a_case() -> None:
    assert {path.name for path in cases.OPTIMIZERS} == set(ct.optim.__all__) - {"Optimizer"}


def test_the_files_hold_the_cases_and_nothing_else() -> None:
    assert set(LAYERS) == {case.id for case in cases.LAYERS}
    assert set(PATHS) == {path.id for path in cases.OPTIMIZERS} | {"problem"}
    assert sum(file.stat().st_size for file in GOLDEN.glob("*.safetensors")) < 1_000_000
