"""Text and what language models need around them: vocabularies, sampling of the next token, perplexity."""

from __future__ import annotations

from .batches import causal_mask, pad_sequences, padding_mask
from .generate import generate, stream
from .sampling import Sampler, perplexity, sample
from .tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, load_tokenizer

__all__ = [
    "ByteTokenizer",
    "CharTokenizer",
    "Sampler",
    "Tokenizer",
    "causal_mask",
    "generate",
    "load_tokenizer",
    "pad_sequences",
    "padding_mask",
    "perplexity",
    "sample",
    "stream",
]
