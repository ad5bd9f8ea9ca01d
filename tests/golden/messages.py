"""Wrong calls whose messages are kept word for word in `messages.txt`: the mistakes that people make.

`CORTEN_UPDATE_GOLDEN=1 pytest tests/test_bad_calls.py -k messages` writes the file anew. Read the difference as a
user would: does the text name the operation, the rule, what came, and what to do?
"""

from __future__ import annotations

import numpy as np

import corten as ct
from corten import nn
from corten.nn import functional as F


def x(*shape: int, dtype: str = "float32") -> ct.Tensor:
    return ct.ones(shape, dtype=dtype)


def used_up() -> None:
    y = (x(2).requires_grad_() ** 2).sum()
    y.backward()
    y.backward()


def state() -> None:
    nn.Linear(3, 2).load_state_dict({"weight": x(2, 4), "bais": x(2)})


CALLS = {
    # -- shapes
    "x(2, 3) + x(4)": lambda: x(2, 3) + x(4),
    "x(2, 3) @ x(4, 5)": lambda: x(2, 3) @ x(4, 5),
    "x(2, 3).reshape(4, 2)": lambda: x(2, 3).reshape(4, 2),
    "x(2, 3).reshape(-1, -1)": lambda: x(2, 3).reshape(-1, -1),
    "ct.zeros((2, -3))": lambda: ct.zeros((2, -3)),
    "ct.zeros('2, 3')": lambda: ct.zeros("2, 3"),
    "ct.broadcast_to(x(2, 3), (2, 4))": lambda: ct.broadcast_to(x(2, 3), (2, 4)),
    "ct.concat([x(2, 3), x(2, 4)])": lambda: ct.concat([x(2, 3), x(2, 4)]),
    "ct.concat(x(2, 3))": lambda: ct.concat(x(2, 3)),
    "ct.stack([])": lambda: ct.stack([]),
    "ct.stack([x(2), x(3)])": lambda: ct.stack([x(2), x(3)]),
    "ct.split(x(10), 3)": lambda: ct.split(x(10), 3),
    "x(2, 3, 4).T": lambda: x(2, 3, 4).T,
    "ct.einsum('ij,jk->ik', x(2, 3), x(4, 5))": lambda: ct.einsum("ij,jk->ik", x(2, 3), x(4, 5)),
    "ct.tensor([[1, 2], [3]])": lambda: ct.tensor([[1, 2], [3]]),
    "ct.where(x(2), x(2), x(2))": lambda: ct.where(x(2), x(2), x(2)),
    # -- axes and indices
    "x(2, 3).sum(axis=2)": lambda: x(2, 3).sum(axis=2),
    "x(2, 3).sum(axis=(0, 0))": lambda: x(2, 3).sum(axis=(0, 0)),
    "x(2, 3).sum(axis=1, dim=1)": lambda: x(2, 3).sum(axis=1, dim=1),
    "x(2, 3).permute(0, 0)": lambda: x(2, 3).permute(0, 0),
    "x(2, 3)[2]": lambda: x(2, 3)[2],
    "x(2, 3)[0, 0, 0]": lambda: x(2, 3)[0, 0, 0],
    "ct.softmax(x(2, 3), axis=2)": lambda: ct.softmax(x(2, 3), axis=2),
    "ct.softmax(x(2, 3), axis='last')": lambda: ct.softmax(x(2, 3), axis="last"),  # type: ignore[arg-type]
    "ct.take(x(3), ct.tensor([0, 3]))": lambda: ct.take(x(3), ct.tensor([0, 3])),
    "ct.topk(x(3), 4)": lambda: ct.topk(x(3), 4),
    # -- dtypes
    "x(2) + 'a'": lambda: x(2) + "a",
    "ct.matmul([[1.0]], x(1, 1))": lambda: ct.matmul([[1.0]], x(1, 1)),
    "ct.ones(3, dtype='float33')": lambda: ct.ones(3, dtype="float33"),
    "ct.tensor(np.zeros(2, complex))": lambda: ct.tensor(np.zeros(2, complex)),
    "ct.tensor(300, dtype='uint8')": lambda: ct.tensor(300, dtype="uint8"),
    "ct.tensor(float('nan'), dtype='int64')": lambda: ct.tensor(float("nan"), dtype="int64"),
    "ct.tensor(2**70)": lambda: ct.tensor(2**70),
    "ct.ones(2, dtype='int64').requires_grad_()": lambda: x(2, dtype="int64").requires_grad_(),
    "ct.tensor('abc')": lambda: ct.tensor("abc"),
    "~x(2)": lambda: ~x(2),
    "bool(x(2))": lambda: bool(x(2)),
    "x(2).item()": lambda: x(2).item(),
    # -- values and options
    "ct.arange(0, 5, 0)": lambda: ct.arange(0, 5, 0),
    "ct.linspace(0, 1, -1)": lambda: ct.linspace(0, 1, -1),
    "ct.dropout(x(2), p=1.5)": lambda: ct.dropout(x(2), p=1.5),
    "ct.max(x(0))": lambda: ct.max(x(0)),
    "ct.ones(2, device='cuda')": lambda: ct.ones(2, device="cuda"),
    "x(2) + ct.ones(2, device='reference')": lambda: x(2) + ct.ones(2, device="reference"),
    "ct.set_num_threads(0)": lambda: ct.set_num_threads(0),
    # -- layers
    "nn.Linear(784, 10)(x(32, 28, 28))": lambda: nn.Linear(784, 10)(x(32, 28, 28)),
    "nn.Linear(3, 2)(x(4, 3, dtype='float64'))": lambda: nn.Linear(3, 2)(x(4, 3, dtype="float64")),
    "nn.Linear(3, 2)(None)": lambda: nn.Linear(3, 2)(None),
    "nn.Linear(3.5, 2)": lambda: nn.Linear(3.5, 2),  # type: ignore[arg-type]
    "nn.Conv2d(3, 16, 5)(x(8, 28, 28, 3))": lambda: nn.Conv2d(3, 16, 5)(x(8, 28, 28, 3)),
    "nn.Conv2d(3, 16, 5)(x(8, 3, 4, 4))": lambda: nn.Conv2d(3, 16, 5)(x(8, 3, 4, 4)),
    "nn.Conv2d(3, 16, 5, groups=2)": lambda: nn.Conv2d(3, 16, 5, groups=2),
    "F.conv2d(x(1, 1, 5, 5), x(1, 1, 3, 3), stride=-1)": lambda: F.conv2d(x(1, 1, 5, 5), x(1, 1, 3, 3), stride=-1),
    "F.conv2d(..., padding='sane')": lambda: F.conv2d(x(1, 1, 5, 5), x(1, 1, 3, 3), padding="sane"),  # type: ignore[arg-type]
    "nn.MaxPool2d(2, padding=2)": lambda: nn.MaxPool2d(2, padding=2),
    "nn.BatchNorm2d(3)(x(4, 3))": lambda: nn.BatchNorm2d(3)(x(4, 3)),
    "nn.BatchNorm1d(3)(x(1, 3))": lambda: nn.BatchNorm1d(3)(x(1, 3)),
    "nn.LayerNorm(4)(x(2, 3))": lambda: nn.LayerNorm(4)(x(2, 3)),
    "nn.GroupNorm(3, 4)": lambda: nn.GroupNorm(3, 4),
    "nn.Embedding(10, 4)(ct.tensor([3, 10]))": lambda: nn.Embedding(10, 4)(ct.tensor([3, 10])),
    "nn.Embedding(10, 4)(x(3))": lambda: nn.Embedding(10, 4)(x(3)),
    "nn.Sequential(nn.ReLU, nn.Linear(2, 2))": lambda: nn.Sequential(nn.ReLU, nn.Linear(2, 2)),  # type: ignore[arg-type]
    # -- losses
    "F.cross_entropy(x(4, 10), ct.tensor([1, 2, 3, 10]))": lambda: F.cross_entropy(x(4, 10), ct.tensor([1, 2, 3, 10])),
    "F.cross_entropy(x(4, 10), x(4))": lambda: F.cross_entropy(x(4, 10), x(4)),
    "F.cross_entropy(x(4, 10), ct.tensor([1, 2, 3]))": lambda: F.cross_entropy(x(4, 10), ct.tensor([1, 2, 3])),
    "F.mse_loss(x(4, 1), x(4))": lambda: F.mse_loss(x(4, 1), x(4)),
    "F.mse_loss(x(4), x(4), reduction='avg')": lambda: F.mse_loss(x(4), x(4), reduction="avg"),  # type: ignore[arg-type]
    "F.binary_cross_entropy(2 * x(3), x(3))": lambda: F.binary_cross_entropy(2 * x(3), x(3)),
    # -- gradients
    "x(2).sum().backward()": lambda: x(2).sum().backward(),
    "(2 * x(2).requires_grad_()).backward()": lambda: (2 * x(2).requires_grad_()).backward(),
    "y.backward(); y.backward()": used_up,
    "x(2).requires_grad_().numpy()": lambda: x(2).requires_grad_().numpy(),
    "(x(2).requires_grad_() * 2).requires_grad = False": lambda: setattr(
        x(2).requires_grad_() * 2, "requires_grad", False
    ),
    "ct.grad(y, z), z not in the graph of y": lambda: ct.grad(x(1).requires_grad_() * 2, x(1).requires_grad_()),
    # -- training
    "ct.optim.SGD(nn.Linear(2, 2), lr=0.1)": lambda: ct.optim.SGD(nn.Linear(2, 2), lr=0.1),
    "ct.optim.SGD([], lr=0.1)": lambda: ct.optim.SGD([], lr=0.1),
    "ct.optim.Adam([x(2)], lr=-1)": lambda: ct.optim.Adam([x(2).requires_grad_()], lr=-1),
    "nn.Linear(3, 2).load_state_dict({'weight': x(2, 4), 'bais': x(2)})": state,
    "ct.data.TensorDataset(x(4, 2), x(3))": lambda: ct.data.TensorDataset(x(4, 2), x(3)),
    "ct.data.DataLoader(dataset, batch_size=0)": lambda: ct.data.DataLoader(ct.data.TensorDataset(x(4)), batch_size=0),
}


def messages() -> str:
    """Every call with the exception that it raises, as the file has them."""
    parts = []
    for code, call in CALLS.items():
        try:
            result = call()
        except Exception as error:
            text = "\n    ".join(str(error).splitlines())
            parts.append(f"{code}\n    {type(error).__name__}: {text}\n")
        else:
            parts.append(f"{code}\n    no error: {type(result).__name__}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    np.set_printoptions(precision=4)
    print(messages())
