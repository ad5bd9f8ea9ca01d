"""Callbacks: code of yours that runs at certain moments of `Trainer.fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..functions import Tensor
    from .trainer import Trainer

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """Override what you need; each method does nothing by itself.

    Setting `trainer.stop_training = True` ends the training after the current step.
    """

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before each epoch; `epoch` counts from 1."""

    def on_batch_end(self, trainer: Trainer, step: int, loss: float) -> None:
        """After each training step; `step` counts from 1 in each epoch."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, figures: Mapping[str, float]) -> None:
        """After each epoch, with its figures, validation included."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, also when the training ends with an exception."""


class EarlyStopping(Callback):
    """End the training when a figure has not become better for some epochs.

    Args:
        monitor: name of the figure.
        patience: epochs in a row without improvement after which it ends.
        min_delta: by how much it must be better to count.
        mode: whether smaller ("min") or larger ("max") is better; "auto" takes "max" for accuracies.
        restore_best: put back the weights of the best epoch when the training ends.

    Raises:
        ValueError: an argument is out of range.
        KeyError: during training, if there is no figure of that name.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        min_delta: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
        restore_best: bool = True,
    ) -> None:
        if patience < 0 or not min_delta >= 0:
            raise ValueError(
                f"[EarlyStopping] patience and min_delta must not be negative, got {patience} and {min_delta}"
            )
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"[EarlyStopping] mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.sign = 1.0 if mode == "max" or (mode == "auto" and "acc" in monitor) else -1.0
        self.restore_best = restore_best
        self.on_fit_begin(None)

    def on_fit_begin(self, trainer: Trainer | None) -> None:
        """Forget what was best before."""
        self.best_epoch = 0
        self._best = -math.inf
        self._state: dict[str, Tensor] | None = None

    def on_epoch_end(self, trainer: Trainer, epoch: int, figures: Mapping[str, float]) -> None:
        """Compare with the best epoch so far."""
        if self.monitor not in figures:
            raise KeyError(f"[EarlyStopping] there is no figure {self.monitor!r}; there are {', '.join(figures)}")
        value = self.sign * figures[self.monitor]
        if value > self._best + self.min_delta:
            self._best, self.best_epoch = value, epoch
            if self.restore_best:
                self._state = trainer.model.state_dict()
        elif epoch - self.best_epoch >= max(self.patience, 1):
            trainer.stop_training = True

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put back the best weights."""
        if self._state is not None:
            trainer.model.load_state_dict(self._state)
            self._state = None
