"""Encoder and decoder without attention: a sequence becomes a state, and the state another sequence."""

from __future__ import annotations

from typing import Any, Literal

from .. import nn
from ..checks import is_tensor, whole
from ..functions import Tensor, argmax, concat, full, no_grad, rand, stack, where

__all__ = ["EncoderDecoder"]


class EncoderDecoder(nn.Module):
    """Sutskever's sequence to sequence: the encoder's last state is the decoder's first.

    Source (N, S) and target so far (N, T) -> logits of the next token (N, T, vocabulary).

    Args:
        source_vocab: number of source tokens.
        target_vocab: number of target tokens.
        embedding_size: size of the embeddings.
        hidden_size: size of the states.
        num_layers: of the encoder and of the decoder.
        cell: "lstm", "gru" or "rnn".
        dropout: between the layers, in training.
        dtype: of the parameters; float32 by default.

    I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning with neural networks", 2014, arXiv:1409.3215.

    >>> import corten as ct
    >>> net = ct.models.EncoderDecoder(11, 13, 8, 16)
    >>> net(ct.tensor([[4, 5, 6]]), ct.tensor([[1, 7]])).shape
    (1, 2, 13)
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        embedding_size: int = 64,
        hidden_size: int = 128,
        num_layers: int = 1,
        cell: Literal["lstm", "gru", "rnn"] = "lstm",
        dropout: float = 0.0,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        if cell not in kinds:
            raise ValueError(f"[EncoderDecoder] cell must be 'lstm', 'gru' or 'rnn', got {cell!r}")
        e = whole("[EncoderDecoder] embedding_size", embedding_size, 1)
        h = whole("[EncoderDecoder] hidden_size", hidden_size, 1)
        self.source_embedding = nn.Embedding(source_vocab, e, dtype=dtype)
        self.target_embedding = nn.Embedding(target_vocab, e, dtype=dtype)
        options: dict[str, Any] = {"batch_first": True, "dropout": dropout, "dtype": dtype}
        self.encoder = kinds[cell](e, h, num_layers, **options)
        self.decoder = kinds[cell](e, h, num_layers, **options)
        self.output = nn.Linear(h, target_vocab, dtype=dtype)

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Any:
        """The state after the last token of each source (N, S)."""
        is_tensor("[EncoderDecoder] source", source)
        if source.ndim != 2:
            raise ValueError(f"[EncoderDecoder] source must be (N, S) tokens, got {source.shape}")
        return self.encoder(self.source_embedding(source), lengths=lengths)[1]

    def decode(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (N, T, vocabulary) for the tokens after `tokens` (N, T), and the state after them.

        This is what `text.generate` calls a model.
        """
        y, state = self.decoder(self.target_embedding(tokens), state)
        logits: Tensor = self.output(y)
        return logits, state

    def forward(
        self, source: Tensor, target: Tensor, lengths: Tensor | None = None, *, teacher_forcing: float = 1.0
    ) -> Tensor:
        """Logits (N, T, vocabulary): place t predicts token t + 1.

        Args:
            source: integers (N, S).
            target: integers (N, T), the token that begins a sequence first.
            lengths: integers (N,), the number of source tokens; those behind are padding.
            teacher_forcing: probability that a sequence is given the true token before a step, and not the likeliest
                by its own logits; each sequence and step draws for itself (scheduled sampling, if it falls during
                training). At 1 all steps run in one kernel.

        S. Bengio et al., "Scheduled sampling for sequence prediction with recurrent neural networks", 2015,
        arXiv:1506.03099.
        """
        is_tensor("[EncoderDecoder] target", target)
        if target.ndim != 2 or target.shape[1] == 0:
            raise ValueError(f"[EncoderDecoder] target must be (N, T) tokens, at least one each, got {target.shape}")
        state = self.encode(source, lengths)
        if teacher_forcing >= 1:
            return self.decode(target, state)[0]
        logits: list[Tensor] = []
        token = target[:, 0]
        for t in range(target.shape[1]):
            if t:
                true = rand(target.shape[0], device=target.device) < teacher_forcing
                token = where(true, target[:, t], argmax(logits[-1], -1))
            y, state = self.decode(token.unsqueeze(1), state)
            logits.append(y[:, 0])
        return stack(logits, 1)

    def translate(
        self, source: Tensor, bos: int, eos: int, max_length: int = 100, lengths: Tensor | None = None
    ) -> Tensor:
        """The likeliest token at each step, (N, T) without `bos`; after `eos` only `eos`."""
        count = whole("[EncoderDecoder.translate] max_length", max_length)
        training = self.training
        self.eval()
        try:
            with no_grad():
                state = self.encode(source, lengths)
                token = full((source.shape[0], 1), bos, dtype="int64", device=source.device)
                found: list[Tensor] = []
                for _ in range(count):
                    logits, state = self.decode(token, state)
                    token = argmax(logits, -1)
                    if found:
                        token = where(found[-1] == eos, found[-1], token)
                    found.append(token)
                    if bool((token == eos).all().item()):
                        break
        finally:
            self.train(training)
        if not found:
            return full((source.shape[0], 0), eos, dtype="int64", device=source.device)
        return concat(found, 1)
