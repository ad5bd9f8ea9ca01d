"""Pictures: training curves, predictions, attention. Needs matplotlib, which `pip install corten[viz]` brings."""

from __future__ import annotations

from .attention import attention_map, draw_attention
from .plots import draw_history, draw_predictions, training_picture

__all__ = ["attention_map", "draw_attention", "draw_history", "draw_predictions", "training_picture"]
