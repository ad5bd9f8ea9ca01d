"""Runs the cases of tests/golden/cases.py in PyTorch and writes what it computed to tests/golden/*.safetensors.

Run it with a Python that has torch, numpy and safetensors (corten itself is not needed):

    python tools/make_golden.py

Everything is computed in float64. The same cases and the same PyTorch give the same bytes; its version is in the files.
"""

from __future__ import annotations

import sys
from pathlib import Path as File
from typing import Any

import numpy as np
import safetensors.numpy
import torch

GOLDEN = File(__file__).resolve().parent.parent / "tests" / "golden"
sys.path.insert(0, str(GOLDEN.parent))

from golden import cases  # noqa: E402 - found through the line above


def tensor(array: np.ndarray) -> Any:
    return torch.from_numpy(np.array(array))


def convert(value: Any) -> Any:
    """An argument as PyTorch takes it."""
    if isinstance(value, cases.Bools):
        return tensor(value.array())
    if isinstance(value, cases.Built):
        return getattr(torch.nn, value.name)(*value.args, **value.kwargs)
    return torch.tensor(value.values, dtype=torch.float64) if isinstance(value, cases.Values) else value


def layer(case: cases.Case) -> dict[str, np.ndarray]:
    """Inputs, parameters, result and gradients of one case."""
    rng = case.rng()
    kept: dict[str, np.ndarray] = {}
    inputs = []
    for i, spec in enumerate(case.inputs):
        array = spec.draw(rng)
        kept[f"input.{i}"] = array
        inputs.append(tensor(array).requires_grad_(spec.grad))
    args = [convert(a) for a in case.args]
    kwargs = {name: convert(value) for name, value in case.kwargs.items()}
    how = {name: convert(value) for name, value in case.how.items()}
    module = None
    if case.function:
        output = getattr(torch.nn.functional, case.name)(*inputs, *args, **kwargs)
    else:
        module = getattr(torch.nn, case.name)(*args, **kwargs)
        module = module.double()
        if case.training is not None:
            module.train(case.training)
        # Values of our own: PyTorch's first ones say nothing (ones, zeros) or change with its versions.
        with torch.no_grad():
            for name, value in module.named_parameters():
                value.copy_(tensor(rng.normal(size=tuple(value.shape)) * 0.5 + 0.25))
                if getattr(module, "padding_idx", None) is not None:
                    value[module.padding_idx] = 0
                kept[f"state.{name}"] = value.detach().numpy().copy()
            for name, value in module.named_buffers():
                if name.startswith("running"):
                    value.copy_(tensor(rng.uniform(0.5, 1.5, size=tuple(value.shape))))
                kept[f"state.{name}"] = value.numpy().copy()
        for _ in range(case.calls):
            output = module(*inputs, **how)
    if isinstance(output, tuple):
        output = torch.cat([part.reshape(-1) for part in cases.flat(output)])
    kept["output"] = output.detach().numpy()
    if output.requires_grad:
        output.backward(tensor(cases.cotangent(tuple(output.shape))))
    for i, (spec, value) in enumerate(zip(case.inputs, inputs, strict=True)):
        if spec.grad:
            kept[f"grad.{i}"] = value.grad.numpy()
    if module is not None:
        for name, value in module.named_parameters():
            kept[f"grad.{name}"] = value.grad.numpy()
        for name, value in module.named_buffers():
            kept[f"after.{name}"] = value.numpy().copy()
    return {f"{case.id}/{name}": np.array(value, order="C") for name, value in kept.items()}


def walk(path: cases.Path) -> dict[str, np.ndarray]:
    """The parameters of `path` after some of its steps."""
    data = {name: tensor(array) for name, array in cases.problem().items()}
    names = ("w", "b", "v")
    for name in names:
        data[name].requires_grad_()
    params: list[Any] = [data[n] for n in names]
    if path.second is not None:
        params = [{"params": params[:2]}, {"params": params[2:], **path.second}]
    optimizer = getattr(torch.optim, path.name)(params, **path.kwargs)
    kept = {}
    for step in range(1, cases.STEPS + 1):
        optimizer.zero_grad()
        loss = ((torch.tanh(data["x"] @ data["w"] + data["b"]) @ data["v"] - data["y"]) ** 2).mean()
        loss.backward()
        optimizer.step()
        if step in cases.SEEN:
            kept.update({f"{path.id}/{step}.{n}": data[n].detach().numpy().copy() for n in names})
    return kept


def main() -> None:
    torch.set_num_threads(1)
    layers: dict[str, np.ndarray] = {}
    for case in cases.LAYERS:
        try:
            new = layer(case)
        except Exception as error:
            raise SystemExit(f"{case.id}: {error}") from error
        if layers.keys() & new.keys():
            raise SystemExit(f"two cases are called {case.id}; tell them apart by a note")
        layers |= new
    paths: dict[str, np.ndarray] = {f"problem/{name}": array for name, array in cases.problem().items()}
    for path in cases.OPTIMIZERS:
        paths |= walk(path)
    for name, arrays in (("layers", layers), ("optimizers", paths)):
        file = GOLDEN / f"{name}.safetensors"
        made_with = {"made_with": f"torch {torch.__version__.partition('+')[0]}"}
        safetensors.numpy.save_file(dict(sorted(arrays.items())), file, made_with)
        print(f"{file}: {len(arrays)} arrays, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
