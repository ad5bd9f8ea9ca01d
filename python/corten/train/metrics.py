"""Metrics: figures that are gathered batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..functions import Tensor, to_array

__all__ = ["Accuracy", "MeanAbsoluteError", "Metric", "make_metrics"]


class Metric:
    """A figure over a pass through the data: `update` takes a batch, `compute` gives the figure, `reset` starts anew.

    Subclasses set `name` and write the three methods. They get outputs without a graph.
    """

    name: str = "metric"

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in a batch: the model's output (N, *) and the target (N, *)."""
        raise NotImplementedError

    def compute(self) -> float:
        """The figure over the batches since `reset`; NaN if there were none."""
        raise NotImplementedError


class _Mean(Metric):
    """A mean over all counted elements."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._total = 0.0
        self._count = 0

    def compute(self) -> float:
        """The mean over the batches since `reset`; NaN if there were none."""
        return self._total / self._count if self._count else float("nan")


class Accuracy(_Mean):
    """The share of right answers.

    * Logits or probabilities (N, C, *) and class indices (N, *): the largest of the C is the answer.
    * Both (N, C) with C > 1 and floating: the largest is the answer and the truth.
    * Logits and targets of one shape (N,) or (N, 1): positive means yes, as after `BCEWithLogitsLoss`.

    >>> import corten as ct
    >>> accuracy = ct.train.Accuracy()
    >>> accuracy.update(ct.tensor([[2.0, 1.0], [0.0, 3.0]]), ct.tensor([0, 0]))
    >>> accuracy.compute()
    0.5
    """

    name = "accuracy"

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in a batch: see the class for the shapes."""
        # NumPy on views of the tensors: for a batch of a few hundred rows this costs a few microseconds.
        y, t = to_array(output), to_array(target)
        if y.shape == t.shape:
            if y.ndim >= 2 and y.shape[1] > 1:
                right = y.argmax(1) == t.argmax(1)
            else:
                right = (y > 0) == (t > 0.5)
        elif y.ndim == t.ndim + 1 and y.shape[:1] + y.shape[2:] == t.shape:
            right = y.argmax(1) == t
        else:
            raise ValueError(f"[Accuracy] cannot compare outputs {y.shape} with targets {t.shape}")
        self._total += int(np.count_nonzero(right))
        self._count += right.size


class MeanAbsoluteError(_Mean):
    """The mean of `|output - target|` over all elements; both (*) of one shape.

    >>> import corten as ct
    >>> error = ct.train.MeanAbsoluteError()
    >>> error.update(ct.tensor([1.0, 2.0]), ct.tensor([1.0, 4.0]))
    >>> error.compute()
    1.0
    """

    name = "mae"

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in a batch: two tensors of one shape."""
        y, t = to_array(output), to_array(target)
        if y.shape != t.shape:
            raise ValueError(f"[MeanAbsoluteError] cannot compare outputs {y.shape} with targets {t.shape}")
        self._total += float(np.abs(y.astype(np.float64) - t).sum())
        self._count += y.size


_KNOWN: dict[str, type[Metric]] = {"accuracy": Accuracy, "mae": MeanAbsoluteError}


def make_metrics(metrics: Iterable[Any]) -> list[Metric]:
    """Metrics of names and objects. Raises ValueError for an unknown name, TypeError for anything else."""
    made: list[Metric] = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        if isinstance(metric, str):
            if metric not in _KNOWN:
                raise ValueError(f"[Trainer] unknown metric {metric!r}; there are {', '.join(_KNOWN)}")
            made.append(_KNOWN[metric]())
        elif isinstance(metric, Metric):
            made.append(metric)
        else:
            raise TypeError(f"[Trainer] a metric is a name or a Metric, got {type(metric).__name__}")
    names = [m.name for m in made]
    if len(set(names)) != len(names) or "loss" in names:
        raise ValueError(f"[Trainer] metrics need names of their own, other than 'loss', got {names}")
    return made
