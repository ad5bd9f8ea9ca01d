"""Pictures: training curves, predictions, attention, and gradients through time.

Needs matplotlib, which `pip install corten[viz]` brings; the figures behind `bptt` do not.
"""

from __future__ import annotations

from .attention import attention_map, draw_attention
from .bptt import BPTTView, LayerView, bptt
from .plots import draw_history, draw_predictions, training_picture

__all__ = [
    "BPTTView",
    "LayerView",
    "attention_map",
    "bptt",
    "draw_attention",
    "draw_history",
    "draw_predictions",
    "training_picture",
]
