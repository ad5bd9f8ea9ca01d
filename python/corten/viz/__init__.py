"""Pictures: training curves and predictions. Needs matplotlib, which `pip install corten[viz]` brings."""

from __future__ import annotations

from .plots import draw_history, draw_predictions, training_picture

__all__ = ["draw_history", "draw_predictions", "training_picture"]
