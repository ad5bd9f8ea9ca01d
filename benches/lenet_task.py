"""The LeNet task in one library per process: what `lenet_compare.py` starts, once with corten and once with PyTorch.

Reads one JSON command per line from standard input and answers with one JSON line:

    {"do": "setup", "net": "relu" | "slide", "optimizer": "adam" | "sgd", "lr": 0.001, "batch": 64, "seed": 0}
    {"do": "epoch"}      -> {"seconds": ..., "loss": ...}    one pass over the training set, shuffled anew
    {"do": "accuracy"}   -> {"accuracy": ...}                on the test set

Data come as an .npz file made by the parent (arrays x_train, y_train, x_test, y_test), so that both see the same bytes;
the batches of epoch e are `np.random.default_rng((seed, e)).permutation(n)` in both.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def corten_task(
    data: dict[str, np.ndarray], cfg: dict[str, Any]
) -> tuple[Callable[[np.ndarray], float], Callable[[], float]]:
    """Builds net and optimizer in corten; returns (one epoch over these indices, test accuracy)."""
    import corten as ct
    from corten import nn, optim
    from corten.nn import functional as F

    ct.manual_seed(cfg["seed"])
    act = nn.ReLU if cfg["net"] == "relu" else nn.Identity
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), act(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10),
    )  # fmt: skip
    opt: Any = (
        optim.Adam(model.parameters(), lr=cfg["lr"])
        if cfg["optimizer"] == "adam"
        else optim.SGD(model.parameters(), lr=cfg["lr"])
    )
    x, y = ct.tensor(data["x_train"]), ct.tensor(data["y_train"])
    x_test, y_test = ct.tensor(data["x_test"]), data["y_test"]

    def epoch(order: np.ndarray) -> float:
        model.train()
        last = None
        for i in range(0, len(order), cfg["batch"]):
            rows = ct.tensor(order[i : i + cfg["batch"]])
            opt.zero_grad()
            last = F.cross_entropy(model(ct.take_rows(x, rows)), ct.take_rows(y, rows))
            last.backward()
            opt.step()
        return float(last.item())

    def accuracy() -> float:
        model.eval()
        with ct.no_grad():
            out = [ct.argmax(model(x_test[i : i + 1000]), axis=1).numpy() for i in range(0, len(y_test), 1000)]
        return float((np.concatenate(out) == y_test).mean())

    return epoch, accuracy


def torch_task(
    data: dict[str, np.ndarray], cfg: dict[str, Any]
) -> tuple[Callable[[np.ndarray], float], Callable[[], float]]:
    """The same in PyTorch, with its best settings for this net on a CPU (fused optimizers, data already in tensors)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(cfg["seed"])
    act = nn.ReLU if cfg["net"] == "relu" else nn.Identity
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), act(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10),
    )  # fmt: skip
    cls: Any = torch.optim.Adam if cfg["optimizer"] == "adam" else torch.optim.SGD
    opt = cls(model.parameters(), lr=cfg["lr"], fused=True)
    x, y = torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"])
    x_test, y_test = torch.from_numpy(data["x_test"]), data["y_test"]

    def epoch(order: np.ndarray) -> float:
        model.train()
        last = None
        idx = torch.from_numpy(order)
        for i in range(0, len(order), cfg["batch"]):
            rows = idx[i : i + cfg["batch"]]
            opt.zero_grad()
            last = F.cross_entropy(model(x[rows]), y[rows])
            last.backward()
            opt.step()
        return float(last.item())

    def accuracy() -> float:
        model.eval()
        with torch.no_grad():
            out = [model(x_test[i : i + 1000]).argmax(1).numpy() for i in range(0, len(y_test), 1000)]
        return float((np.concatenate(out) == y_test).mean())

    return epoch, accuracy


def main() -> None:
    """Serves the commands of the module's docstring: `lenet_task.py corten|torch DATA.npz`."""
    library, path = sys.argv[1:3]
    data = dict(np.load(path))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not land between our answers
    epoch_no, cfg = 0, {}
    epoch, accuracy = (lambda order: 0.0), (lambda: 0.0)
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, float] = {}
        if command["do"] == "setup":
            cfg, epoch_no = command, 0
            epoch, accuracy = (corten_task if library == "corten" else torch_task)(data, cfg)
        elif command["do"] == "epoch":
            order = np.random.default_rng((cfg["seed"], epoch_no)).permutation(len(data["y_train"]))
            epoch_no += 1
            start = time.perf_counter()
            loss = epoch(order)
            answer = {"seconds": time.perf_counter() - start, "loss": loss}
        else:
            answer = {"accuracy": accuracy()}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
