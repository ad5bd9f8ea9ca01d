"""Training: `Trainer` with `fit`, `evaluate` and `predict`, in the manner of Keras."""

from __future__ import annotations

from .callbacks import Callback, EarlyStopping
from .history import History
from .metrics import Accuracy, MeanAbsoluteError, Metric
from .trainer import NonFiniteLossError, Trainer
from .truncated import TruncatedBPTT, detach_state

__all__ = [
    "Accuracy",
    "Callback",
    "EarlyStopping",
    "History",
    "MeanAbsoluteError",
    "Metric",
    "NonFiniteLossError",
    "Trainer",
    "TruncatedBPTT",
    "detach_state",
]
