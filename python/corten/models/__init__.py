"""Models that are known by name."""

from __future__ import annotations

from .cache import KVCache
from .encoder_decoder import EncoderDecoder
from .gpt import GPT
from .lenet import LeNet5
from .seq2seq import Seq2Seq
from .transformer import Transformer

__all__ = ["EncoderDecoder", "GPT", "KVCache", "LeNet5", "Seq2Seq", "Transformer"]
