"""Recurrent layers over whole sequences."""

from __future__ import annotations

from ..._core import gru, lstm, rnn

__all__ = ["gru", "lstm", "rnn"]
