"""The demo: LeNet-5 learns to read handwritten digits, and draws what it has learnt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from . import functions as ct
from . import nn, optim
from .data import DataLoader
from .datasets import mnist
from .models import LeNet5
from .train import Trainer

__all__ = ["run"]


def run(
    epochs: int = 12,
    seed: int = 0,
    data: Literal["builtin", "full"] = "builtin",
    out: str | Path | None = "out/demo.png",
    batch_size: int = 64,
    lr: float = 1e-3,
    verbose: Literal["auto", 0, 1, 2] = "auto",
) -> float:
    """Train LeNet-5 with Adam, print the accuracy on unseen digits and save a picture.

    Args:
        epochs: passes through the training digits, at least 1.
        seed: of all random numbers.
        data: "builtin" (6,000 training and 1,000 test digits, in the package) or "full" (60,000 and 10,000).
        out: where the picture goes; None draws none.
        batch_size: digits in a step.
        lr: Adam's learning rate.
        verbose: see `Trainer.fit`.

    Returns:
        the accuracy on the test digits.
    """
    if epochs < 1:
        raise ValueError(f"[demo] epochs must be at least 1, got {epochs}")
    train, test = mnist("both", subset=data)
    ct.manual_seed(seed)
    model = LeNet5()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), metrics=["accuracy"])
    count = sum(p.size for p in model.parameters())
    print(f"LeNet-5, {count:,} parameters; {len(train):,} digits to learn from, {len(test):,} unseen ones to read")
    threads = ct.get_num_threads()
    print(f"Adam {lr:g}, batches of {batch_size}, seed {seed}, {threads} thread{'s' if threads != 1 else ''}\n")
    start = time.perf_counter()
    trainer.fit(DataLoader(train, batch_size, shuffle=True), epochs, validation=test, verbose=verbose)
    elapsed = time.perf_counter() - start
    accuracy = trainer.evaluate(test)["accuracy"]
    wrong = round((1 - accuracy) * len(test))
    print(f"\ntest accuracy {accuracy:.2%}: {wrong:,} of {len(test):,} digits read wrong; trained in {elapsed:.1f} s")
    if out is not None:
        _draw(trainer, test.tensors, accuracy, elapsed, Path(out), len(train), epochs)
    return accuracy


def _draw(
    trainer: Trainer,
    test: tuple[ct.Tensor, ...],
    accuracy: float,
    elapsed: float,
    out: Path,
    seen: int,
    epochs: int,
) -> None:
    images, labels = test
    probabilities = ct.softmax(trainer.predict(images), axis=1)
    filters = trainer.model.state_dict()["features.0.weight"]
    from .viz import training_picture

    try:
        written = training_picture(
            out,
            trainer.history,
            images,
            labels,
            probabilities,
            title=f"LeNet-5 reads {accuracy:.1%} of {len(labels):,} unseen digits",
            subtitle=f"trained with corten on {seen:,} handwritten digits: {epochs} epochs, {elapsed:.1f} s",
            filters=filters,
        )
    except ImportError as error:
        print(f"no picture: {error}")
    else:
        print(f"picture: {written}")
