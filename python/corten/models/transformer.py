"""The encoder-decoder Transformer of "Attention Is All You Need"."""

from __future__ import annotations

import math
from typing import Any, Literal

from .. import nn
from ..checks import is_tensor, whole
from ..functions import Tensor, arange, argmax, concat, full, no_grad, where
from ..nn import functional as F
from ..nn import init

__all__ = ["Transformer"]


class Transformer(nn.Module):
    """Translates tokens: source (N, S) and target so far (N, T) -> logits of the next token (N, T, vocabulary).

    Embeddings times `sqrt(d_model)` plus sinusoidal positions, `nn.Transformer`, and an output layer whose matrix is
    the target's embedding (tied). Source and target have embeddings of their own unless `share_embeddings`.

    Args:
        source_vocab: number of source tokens.
        target_vocab: number of target tokens.
        d_model: size of the vectors.
        nhead: number of heads; divides d_model.
        num_layers: layers of encoder and decoder each.
        dim_feedforward: size of the hidden layers.
        dropout: probability of a zero in training.
        norm_first: normalise before each part, not after it as in the paper; trains more easily.
        activation: "relu" or "gelu".
        share_embeddings: one embedding for both; the vocabularies are the same.
        dtype: of the parameters; float32 by default.

    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762.

    >>> import corten as ct
    >>> net = ct.models.Transformer(11, 13, d_model=16, nhead=2, num_layers=1, dim_feedforward=32)
    >>> source, target = ct.tensor([[4, 5, 6]]), ct.tensor([[1, 7]])
    >>> net(source, target).shape, net.translate(source, bos=1, eos=2, max_length=4).shape[0]
    ((1, 2, 13), 1)
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        d_model: int = 512,
        nhead: int = 8,
        num_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        norm_first: bool = False,
        activation: Literal["relu", "gelu"] = "relu",
        share_embeddings: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        source_vocab = whole("[Transformer] source_vocab", source_vocab, 1)
        target_vocab = whole("[Transformer] target_vocab", target_vocab, 1)
        if share_embeddings and source_vocab != target_vocab:
            raise ValueError(
                f"[Transformer] shared embeddings need one vocabulary, got {source_vocab} and {target_vocab} tokens"
            )
        self.d_model = whole("[Transformer] d_model", d_model, 1)
        self.transformer = nn.Transformer(
            d_model,
            nhead,
            num_layers,
            num_layers,
            dim_feedforward,
            dropout,
            activation,
            batch_first=True,
            norm_first=norm_first,
            dtype=dtype,
        )
        self.target_embedding = nn.Embedding(target_vocab, d_model, dtype=dtype)
        self.source_embedding = (
            self.target_embedding if share_embeddings else nn.Embedding(source_vocab, d_model, dtype=dtype)
        )
        for embedding in (self.source_embedding, self.target_embedding):
            init.normal_(embedding.weight, 0.0, d_model**-0.5)
        self.positions = nn.SinusoidalPositions(d_model)
        self.dropout = nn.Dropout(dropout)

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, name: str) -> Tensor:
        is_tensor(f"[Transformer] {name}", tokens)
        if tokens.ndim != 2:
            raise ValueError(f"[Transformer] {name} must be (N, T) tokens, got {tokens.shape}")
        x: Tensor = self.dropout(self.positions(embedding(tokens) * math.sqrt(self.d_model)))
        return x

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the decoder looks at, (N, S, d_model), and where it is padding."""
        padding = None
        if lengths is not None:
            padding = arange(source.shape[1]) >= lengths.reshape(-1, 1)
        memory = self.transformer.encoder(self._embed(self.source_embedding, source, "source"), None, padding)
        return memory, padding

    def decode(self, target: Tensor, memory: Tensor, padding: Tensor | None = None) -> Tensor:
        """Logits (N, T, vocabulary)."""
        x = self._embed(self.target_embedding, target, "target")
        y = self.transformer.decoder(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True)
        return F.linear(y, self.target_embedding.weight)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (N, T, vocabulary): place t predicts token t + 1 from the source and the target up to t.

        Args:
            source: integers (N, S).
            target: integers (N, T), the token that begins a sequence first.
            lengths: integers (N,), the number of source tokens; those behind are padding.
        """
        memory, padding = self.encode(source, lengths)
        return self.decode(target, memory, padding)

    def translate(
        self, source: Tensor, bos: int, eos: int, max_length: int = 100, lengths: Tensor | None = None
    ) -> Tensor:
        """The likeliest token at each step: (N, at most `max_length`), without `bos`; after `eos` only `eos`.

        Args:
            source: integers (N, S).
            bos: the token that begins a sequence.
            eos: the token that ends one.
            max_length: how many tokens are made at most.
            lengths: integers (N,), the number of source tokens.
        """
        count = whole("[Transformer.translate] max_length", max_length)
        training = self.training
        self.eval()
        try:
            with no_grad():
                memory, padding = self.encode(source, lengths)
                n = source.shape[0]
                found = full((n, 1), bos, dtype="int64")
                ended = full((n,), False, dtype="bool")
                for _ in range(count):
                    best = argmax(self.decode(found, memory, padding)[:, -1], -1)
                    best = where(ended, eos, best)
                    found = concat([found, best.reshape(n, 1)], 1)
                    ended = ended | (best == eos)
                    if bool(ended.all().item()):
                        break
                return found[:, 1:]
        finally:
            self.train(training)

    def attention(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """How the last decoder layer looks at the source: weights (N, T, S), the mean over its heads.

        For alignment plots (`corten.viz.attention_map`).
        """
        training = self.training
        self.eval()
        try:
            with no_grad():
                memory, padding = self.encode(source, lengths)
                decoder: Any = self.transformer.decoder
                layers = list(decoder.layers)
                x = self._embed(self.target_embedding, target, "target")
                for layer in layers[:-1]:
                    x = layer(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True)
                last = layers[-1]
                q = last.norm1(x) if last.norm_first else x
                y, _ = last.self_attn(q, q, q, need_weights=False, is_causal=True)
                x = x + y if last.norm_first else last.norm1(x + y)
                q = last.norm2(x) if last.norm_first else x
                weights: Tensor = last.multihead_attn(q, memory, memory, padding)[1]
                return weights
        finally:
            self.train(training)
