"""Three small tasks that show what recurrent nets can and cannot learn.

    python examples/recurrent_tasks.py adding      # add two marked numbers out of T = 50, 100, 200: RNN, LSTM, GRU
    python examples/recurrent_tasks.py reversal    # an encoder-decoder writes a sequence backwards
    python examples/recurrent_tasks.py parity      # many to one: is the number of ones odd? sequences of any length

`adding` (S. Hochreiter and J. Schmidhuber, 1997) is what a simple recurrent net fails at: answering the mean has an
error of 0.167, and the marked numbers lie too far back for its gradient. It prints the view into time before the
training and writes it as a picture to `out/` with --pictures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import corten as ct
from corten import models, nn, optim, viz
from corten.nn import functional as F

Tensor = ct.Tensor


class ManyToOne(nn.Module):
    """A recurrent layer, and a projection of its last state."""

    def __init__(self, layer: nn.RNN | nn.LSTM | nn.GRU, outputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.out = nn.Linear(layer.hidden_size, outputs)

    def forward(self, x: Tensor, lengths: list[int] | None = None) -> Tensor:
        """x (N, T, I) -> (N, outputs)."""
        _, state = self.layer(x, lengths=lengths)
        last = state[0] if isinstance(state, tuple) else state
        return self.out(last[-1])


def adding_batch(rng: np.random.Generator, batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """Numbers in [0, 1], two of which are marked, one in each half; and the sum of these two."""
    numbers = rng.random((batch, steps))
    marks = np.zeros((batch, steps))
    rows = np.arange(batch)
    for low, high in ((0, steps // 2), (steps // 2, steps)):
        marks[rows, rng.integers(low, high, batch)] = 1
    x = np.stack([numbers, marks], axis=2).astype("float32")
    return ct.tensor(x), ct.tensor((numbers * marks).sum(axis=1, keepdims=True).astype("float32"))


def adding(updates: int, lengths: list[int], pictures: bool) -> None:
    """Trains three nets for each length; prints their error and what their gradient does before."""
    kinds = {
        "RNN": lambda: nn.RNN(2, 64, batch_first=True),
        "LSTM": lambda: nn.LSTM(2, 64, batch_first=True, forget_bias=1.0),
        "GRU": lambda: nn.GRU(2, 64, batch_first=True),
    }
    for steps in lengths:
        for name, make in kinds.items():
            ct.manual_seed(1)
            rng = np.random.default_rng(steps)
            model = ManyToOne(make(), 1)
            view = viz.bptt(model, *adding_batch(rng, 16, steps))
            print(f"T = {steps:3d} {name:4s}: at first the gradient {view.layers[0].verdict}")
            if pictures:
                folder = Path("out")
                folder.mkdir(exist_ok=True)
                view.draw(folder / f"bptt_{name.lower()}_{steps}.png")
            optimizer = optim.Adam(model.parameters(), lr=2e-3)
            start, errors = time.perf_counter(), []
            for _ in range(updates):
                x, y = adding_batch(rng, 64, steps)
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                errors.append(loss.item())
            error = float(np.mean(errors[-50:]))
            print(
                f"    squared error {error:.4f} after {updates} updates, {time.perf_counter() - start:.0f} s",
                flush=True,
            )


def reversal(updates: int) -> None:
    """Sequences of 3 to 8 digits, written backwards; teacher forcing falls from 1 to 0.5."""
    ct.manual_seed(0)
    rng = np.random.default_rng(0)
    pad, bos, eos, digits = 0, 1, 2, 10
    model = models.EncoderDecoder(3 + digits, 3 + digits, 32, 128, cell="gru")
    optimizer = optim.Adam(model.parameters(), lr=2e-3)

    def batch(size: int) -> tuple[Tensor, Tensor, list[int]]:
        lengths = rng.integers(3, 9, size)
        source = np.full((size, 8), pad)
        target = np.full((size, 10), eos)
        target[:, 0] = bos
        for i, n in enumerate(lengths):
            source[i, :n] = 3 + rng.integers(0, digits, n)
            target[i, 1 : n + 1] = source[i, :n][::-1]
        return ct.tensor(source), ct.tensor(target), lengths.tolist()

    start = time.perf_counter()
    for update in range(1, updates + 1):
        source, target, lengths = batch(64)
        forcing = 1.0 if update < updates // 2 else 0.5
        logits = model(source, target[:, :-1], ct.tensor(lengths), teacher_forcing=forcing)
        optimizer.zero_grad()
        F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target[:, 1:].reshape(-1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if update % (updates // 5) == 0:
            source, target, lengths = batch(500)
            written = model.translate(source, bos, eos, 9, ct.tensor(lengths)).numpy()
            wanted = target[:, 1 : 1 + written.shape[1]].numpy()
            right = float((written == wanted).all(axis=1).mean())
            print(
                f"update {update:5d}: {right:.1%} written without a mistake, {time.perf_counter() - start:.0f} s",
                flush=True,
            )


def parity(updates: int) -> None:
    """Sequences of 1 to 20 bits, of which each has its own length."""
    ct.manual_seed(0)
    rng = np.random.default_rng(0)
    model = ManyToOne(nn.GRU(1, 32, batch_first=True), 2)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)

    def batch(size: int) -> tuple[Tensor, list[int], Tensor]:
        bits = rng.integers(0, 2, (size, 20))
        lengths = rng.integers(1, 21, size)
        odd = [int(row[:n].sum() % 2) for row, n in zip(bits, lengths, strict=True)]
        return ct.tensor(bits[:, :, None].astype("float32")), lengths.tolist(), ct.tensor(odd)

    start = time.perf_counter()
    for update in range(1, updates + 1):
        x, lengths, y = batch(128)
        optimizer.zero_grad()
        F.cross_entropy(model(x, lengths), y).backward()
        optimizer.step()
        if update % (updates // 5) == 0:
            x, lengths, y = batch(1000)
            with ct.no_grad():
                right = float((ct.argmax(model(x, lengths), -1) == y).numpy().mean())
            print(f"update {update:5d}: {right:.1%} right, {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["adding", "reversal", "parity"])
    parser.add_argument("--updates", type=int, help="default: 1500 for adding and reversal, 1000 for parity")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 100, 200], help="T of adding")
    parser.add_argument("--pictures", action="store_true")
    args = parser.parse_args()
    if args.task == "adding":
        adding(args.updates or 1500, args.lengths, args.pictures)
    elif args.task == "reversal":
        reversal(args.updates or 1500)
    else:
        parity(args.updates or 1000)


if __name__ == "__main__":
    main()
