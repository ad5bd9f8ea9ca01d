"""Language models of characters on *Alice in Wonderland*, with a sample of text after each epoch.

    python examples/char_rnn.py slides   # SimpleRNN of 128 units, 10 one-hot characters in, the next character out
    python examples/char_rnn.py lstm     # LSTM of 2 x 256 units over pieces of 64 characters

Both read the book in lower case with white space collapsed, and hold the last tenth out. `slides` takes batches of 128
windows for 25 epochs, with RMSprop as Keras sets it. `lstm` takes 1,500 steps of 32 random pieces, with Adam, dropout
0.3, and the gradient clipped to a norm of 1. The book ships with corten.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np

import corten as ct
from corten import nn, optim, text
from corten.data import DataLoader, TensorDataset
from corten.datasets import alice
from corten.nn import functional as F

Tensor = ct.Tensor


class SimpleModel(nn.Module):
    """The slides' model: `SimpleRNN(128)` and a softmax over the characters."""

    def __init__(self, characters: int, units: int = 128) -> None:
        super().__init__()
        self.characters = characters
        self.rnn = nn.RNN(characters, units, batch_first=True)
        self.out = nn.Linear(units, characters)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """tokens (N, T) -> logits (N, T, V), state."""
        y, state = self.rnn(F.one_hot(tokens, self.characters).astype("float32"), state)
        return self.out(y), state


class CharLSTM(nn.Module):
    """Characters as vectors, two layers of LSTM, dropout, and a projection to the characters."""

    def __init__(self, characters: int, units: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 64)
        self.lstm = nn.LSTM(64, units, 2, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(units, characters)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """tokens (N, T) -> logits (N, T, V), state."""
        y, state = self.lstm(self.embedding(tokens), state)
        return self.out(self.dropout(y)), state


def validation_loss(model: nn.Module, tokens: Tensor, steps: int = 64) -> float:
    """Mean loss per character of the held-out text, read once with the state carried on."""
    model.eval()
    total, count, state = 0.0, 0, None
    with ct.no_grad():
        for x, y in text.stream(tokens, 16, steps):
            logits, state = model(x, state)
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
            total, count = total + loss.item() * y.size, count + y.size
    model.train()
    return total / count


def report(name: str, model: nn.Module, held_out: Tensor, tokenizer: text.CharTokenizer, start: float) -> float:
    """Print validation loss, perplexity and a sample; returns the loss."""
    elapsed = time.perf_counter() - start
    loss = validation_loss(model, held_out)
    sampler = text.Sampler(temperature=0.7, seed=1)
    written = text.generate(model, tokenizer.encode("alice was "), 120, choose=sampler)
    print(f"{name}  {elapsed:6.1f} s  validation loss {loss:.3f}, perplexity {math.exp(loss):.2f}")
    print(f"    {tokenizer.decode(written)}", flush=True)
    return loss


def slides(train: Tensor, held_out: Tensor, tokenizer: text.CharTokenizer, epochs: int) -> None:
    """The slides' recipe: windows of 10 characters, each of which predicts the one after it."""
    windows = np.lib.stride_tricks.sliding_window_view(train.numpy(), 11)[::3]
    data = DataLoader(TensorDataset(windows[:, :10].copy(), windows[:, 10].copy()), batch_size=128, shuffle=True)
    model = SimpleModel(len(tokenizer))
    optimizer = optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        for x, y in data:
            optimizer.zero_grad()
            logits, _ = model(x)
            F.cross_entropy(logits[:, -1], y).backward()
            optimizer.step()
        report(f"epoch {epoch:2d}", model, held_out, tokenizer, start)


def lstm(train: Tensor, held_out: Tensor, tokenizer: text.CharTokenizer, steps: int, seed: int) -> None:
    """Random pieces of 64 characters, 32 at a time."""
    model = CharLSTM(len(tokenizer))
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    rng, tokens = np.random.default_rng(seed), train.numpy()
    start = time.perf_counter()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        at = rng.integers(0, len(tokens) - 65, 32)[:, None] + np.arange(65)
        piece = ct.tensor(tokens[at])
        optimizer.zero_grad()
        logits, _ = model(piece[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, len(tokenizer)), piece[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0 or step == steps:
            report(f"step {step:5d}", model, held_out, tokenizer, start)


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["slides", "lstm"])
    parser.add_argument("--epochs", type=int, default=25, help="of slides")
    parser.add_argument("--steps", type=int, default=1500, help="of lstm")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    ct.manual_seed(args.seed)
    book = alice(lower=True, collapse=True)
    tokenizer = text.CharTokenizer.from_text(book)
    tokens = tokenizer.encode(book)
    cut = len(book) * 9 // 10
    if args.model == "slides":
        slides(tokens[:cut], tokens[cut:], tokenizer, args.epochs)
    else:
        lstm(tokens[:cut], tokens[cut:], tokenizer, args.steps, args.seed)


if __name__ == "__main__":
    main()
