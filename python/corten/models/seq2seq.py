"""Sequence to sequence with recurrent nets and attention: the decoder looks at all states of the encoder."""

from __future__ import annotations

from typing import Any

from .. import nn
from ..checks import is_tensor, whole
from ..functions import Tensor, argmax, concat, full, no_grad, rand, stack, tanh, where, zeros

__all__ = ["Seq2Seq"]


class Seq2Seq(nn.Module):
    """Bahdanau's translator: source (N, S) and target so far (N, T) -> logits of the next token (N, T, vocabulary).

    A bidirectional GRU reads the source; its states are keys and values. At each step a GRU cell takes the token before
    and what `nn.AdditiveAttention` saw through its state, and both with the token give the logits.

    Args:
        source_vocab: number of source tokens.
        target_vocab: number of target tokens.
        embedding_size: size of the embeddings.
        hidden_size: size of the states; the encoder has as many in each direction.
        dropout: probability of a zero in training: of embeddings and of what the logits are made of.
        dtype: of the parameters; float32 by default.

    D. Bahdanau, K. Cho, Y. Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
    arXiv:1409.0473.

    >>> import corten as ct
    >>> net = ct.models.Seq2Seq(11, 13, 8, 16)
    >>> source, target = ct.tensor([[4, 5, 6]]), ct.tensor([[1, 7]])
    >>> logits, weights = net(source, target)
    >>> logits.shape, weights.shape
    ((1, 2, 13), (1, 2, 3))
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        embedding_size: int = 64,
        hidden_size: int = 128,
        dropout: float = 0.0,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        e, h = whole("[Seq2Seq] embedding_size", embedding_size, 1), whole("[Seq2Seq] hidden_size", hidden_size, 1)
        self.source_embedding = nn.Embedding(source_vocab, e, dtype=dtype)
        self.target_embedding = nn.Embedding(target_vocab, e, dtype=dtype)
        self.encoder = nn.GRU(e, h, batch_first=True, bidirectional=True, dtype=dtype)
        self.bridge = nn.Linear(h, h, dtype=dtype)
        self.attention = nn.AdditiveAttention(h, 2 * h, h, dtype=dtype)
        self.cell = nn.GRUCell(e + 2 * h, h, dtype=dtype)
        self.output = nn.Linear(3 * h + e, target_vocab, dtype=dtype)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States (N, S, 2 hidden), and the decoder's first state (N, hidden), made of the backward direction's last."""
        is_tensor("[Seq2Seq] source", source)
        if source.ndim != 2:
            raise ValueError(f"[Seq2Seq] source must be (N, S) tokens, got {source.shape}")
        states, last = self.encoder(self.dropout(self.source_embedding(source)), lengths=lengths)
        return states, tanh(self.bridge(last[1]))

    def _step(
        self, token: Tensor, state: Tensor, states: Tensor, projected: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, vocabulary), the next state and the weights (N, S)."""
        x = self.dropout(self.target_embedding(token))
        seen, weights = self.attention(state.unsqueeze(1), states, states, lengths=lengths, projected=projected)
        seen = seen[:, 0]
        state = self.cell(concat([x, seen], 1), state)
        logits: Tensor = self.output(self.dropout(concat([state, seen, x], 1)))
        return logits, state, weights[:, 0]

    def forward(
        self, source: Tensor, target: Tensor, lengths: Tensor | None = None, *, teacher_forcing: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, T, vocabulary) and weights (N, T, S): place t predicts token t + 1.

        Args:
            source: integers (N, S).
            target: integers (N, T), the token that begins a sequence first.
            lengths: integers (N,), the number of source tokens; those behind are padding.
            teacher_forcing: probability that a step is given the true token before it, and not the one it would have
                made itself.
        """
        is_tensor("[Seq2Seq] target", target)
        if target.ndim != 2 or target.shape[1] == 0:
            raise ValueError(f"[Seq2Seq] target must be (N, T) tokens, at least one each, got {target.shape}")
        states, state = self.encode(source, lengths)
        projected = self.attention.key(states)
        logits: list[Tensor] = []
        weights: list[Tensor] = []
        for t in range(target.shape[1]):
            token = target[:, t]
            if t and teacher_forcing < 1 and rand(1).item() >= teacher_forcing:
                token = argmax(logits[-1], -1)
            y, state, w = self._step(token, state, states, projected, lengths)
            logits.append(y)
            weights.append(w)
        return stack(logits, 1), stack(weights, 1)

    def translate(
        self, source: Tensor, bos: int, eos: int, max_length: int = 100, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The likeliest token at each step, (N, T) without `bos`, and the weights (N, T, S); after `eos` only `eos`.

        Args:
            source: integers (N, S).
            bos: the token that begins a sequence.
            eos: the token that ends one.
            max_length: how many tokens are made at most.
            lengths: integers (N,), the number of source tokens.
        """
        count = whole("[Seq2Seq.translate] max_length", max_length)
        training = self.training
        self.eval()
        try:
            with no_grad():
                states, state = self.encode(source, lengths)
                projected = self.attention.key(states)
                n, s = source.shape
                token, ended = full((n,), bos, dtype="int64"), full((n,), False, dtype="bool")
                tokens, weights = [zeros((n, 0), dtype="int64")], [zeros((n, 0, s), dtype=states.dtype)]
                for _ in range(count):
                    logits, state, w = self._step(token, state, states, projected, lengths)
                    token = where(ended, eos, argmax(logits, -1))
                    tokens.append(token.reshape(n, 1))
                    weights.append(w.reshape(n, 1, s))
                    ended = ended | (token == eos)
                    if bool(ended.all().item()):
                        break
                return concat(tokens, 1), concat(weights, 1)
        finally:
            self.train(training)
