"""Text and what language models need around them: vocabularies, sampling of the next token, perplexity."""

from __future__ import annotations

from .sampling import Sampler, perplexity, sample
from .tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, load_tokenizer

__all__ = ["ByteTokenizer", "CharTokenizer", "Sampler", "Tokenizer", "load_tokenizer", "perplexity", "sample"]
