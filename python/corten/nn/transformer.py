"""Encoders and decoders of attention layers, under PyTorch's names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

from ..checks import is_tensor, layers, whole
from ..functions import Tensor, full, triu
from . import functional as F
from . import init
from .attention import MultiheadAttention
from .containers import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .sample_norm import LayerNorm

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = Literal["relu", "gelu"] | Callable[[Tensor], Tensor]


def _activation(name: str, activation: Activation) -> Callable[[Tensor], Tensor]:
    if not (isinstance(activation, str) or callable(activation)):
        raise TypeError(f"[{name}] activation must be 'relu', 'gelu' or a function, got {activation!r}")
    if activation == "relu":
        return F.relu
    if activation == "gelu":
        return F.gelu
    if callable(activation):
        return activation
    raise ValueError(f"[{name}] activation must be 'relu', 'gelu' or a function, got {activation!r}")


class _Layer(Module):
    """What both kinds of layers share: the feed-forward part, and where the norms are."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: Activation,
        layer_norm_eps: float,
        batch_first: bool,
        norm_first: bool,
        bias: bool,
        cross: bool,
        dtype: Any,
        device: str,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        d_model = whole(f"[{name}] d_model", d_model, 1)
        dim_feedforward = whole(f"[{name}] dim_feedforward", dim_feedforward, 1)

        def attention() -> MultiheadAttention:
            return MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, device=device
            )

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype, device=device)

        self.self_attn = attention()
        if cross:
            self.multihead_attn = attention()
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype, device=device)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype, device=device)
        self.norm_first = norm_first
        self.norm1, self.norm2 = norm(), norm()
        if cross:
            self.norm3 = norm()
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        if cross:
            self.dropout3 = Dropout(dropout)
        self.activation = _activation(name, activation)

    def _feed_forward(self, x: Tensor) -> Tensor:
        if self.activation is F.relu:
            hidden = self.linear1.forward(x, activation="relu")
        else:
            hidden = self.activation(self.linear1(x))
        y: Tensor = self.linear2(self.dropout(hidden))
        return y

    def _around(self, x: Tensor, norm: LayerNorm, dropout: Dropout, part: Callable[[Tensor], Tensor]) -> Tensor:
        """The residual connection around a part: `x + part(norm(x))`, or `norm(x + part(x))`."""
        if self.norm_first:
            z: Tensor = x + dropout(part(norm(x)))
            return z
        y: Tensor = norm(x + dropout(part(x)))
        return y


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward net, each with a residual connection and a norm: x (N, L, E) -> the same shape.

    `x = norm1(x + attention(x)); x = norm2(x + linear2(activation(linear1(x))))`, or with `norm_first`
    `x = x + attention(norm1(x)); x = x + linear2(activation(linear1(norm2(x))))`, which trains more easily when deep.

    Args:
        d_model: E.
        nhead: number of heads; divides E.
        dim_feedforward: size of the hidden layer.
        dropout: probability of a zero, in training: of weights, in the hidden layer and of each part's result.
        activation: "relu", "gelu" or a function.
        layer_norm_eps: `eps` of the norms.
        batch_first: axes are (N, L, E), not (L, N, E).
        norm_first: normalise before each part, not after.
        bias: have biases.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    >>> import corten as ct
    >>> ct.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)(ct.zeros((3, 5, 8))).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
            False, dtype, device,
        )  # fmt: skip

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src (N, L, E) -> the same shape; masks as in `MultiheadAttention`: True is hidden."""

        def attend(x: Tensor) -> Tensor:
            y: Tensor = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]
            return y

        x = self._around(src, self.norm1, self.dropout1, attend)
        return self._around(x, self.norm2, self.dropout2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to an encoder's result, and a feed-forward net, each with residual connection and norm.

    The arguments are those of `TransformerEncoderLayer`.

    >>> import corten as ct
    >>> layer = ct.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    >>> layer(ct.zeros((3, 4, 8)), ct.zeros((3, 5, 8)), tgt_is_causal=True).shape
    (3, 4, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
            True, dtype, device,
        )  # fmt: skip

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt (N, L, E), memory (N, S, E) -> (N, L, E); masks as in `MultiheadAttention`: True is hidden."""

        def attend(x: Tensor) -> Tensor:
            y: Tensor = self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]
            return y

        def look(x: Tensor) -> Tensor:
            y: Tensor = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )[0]
            return y

        x = self._around(tgt, self.norm1, self.dropout1, attend)
        x = self._around(x, self.norm2, self.dropout2, look)
        return self._around(x, self.norm3, self.dropout3, self._feed_forward)


def _clones(name: str, layer: Module, count: int, kind: type) -> ModuleList:
    if not isinstance(layer, Module):
        raise TypeError(f"[{name}] the layer must be a module such as nn.{kind.__name__}, got {type(layer).__name__}")
    return ModuleList([copy.deepcopy(layer) for _ in range(layers(f"[{name}] num_layers", count))])


class TransformerEncoder(Module):
    """A stack of copies of an encoder layer, then perhaps a norm: src (N, L, E) -> the same shape.

    Args:
        encoder_layer: is copied, its parameters included.
        num_layers: number of copies.
        norm: applied last.

    >>> import corten as ct
    >>> layer = ct.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> ct.nn.TransformerEncoder(layer, 2)(ct.zeros((3, 5, 8))).shape
    (3, 5, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _clones("TransformerEncoder", encoder_layer, num_layers, TransformerEncoderLayer)
        self.num_layers = len(self.layers)
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src (N, L, E) -> the same shape; every layer gets the masks."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal=is_causal)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """A stack of copies of a decoder layer, then perhaps a norm: tgt (N, L, E), memory (N, S, E) -> (N, L, E).

    Args:
        decoder_layer: is copied, its parameters included.
        num_layers: number of copies.
        norm: applied last.

    >>> import corten as ct
    >>> layer = ct.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    >>> ct.nn.TransformerDecoder(layer, 2)(ct.zeros((3, 4, 8)), ct.zeros((3, 5, 8))).shape
    (3, 4, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _clones("TransformerDecoder", decoder_layer, num_layers, TransformerDecoderLayer)
        self.num_layers = len(self.layers)
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt (N, L, E), memory (N, S, E) -> (N, L, E); every layer gets the masks."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask,
                memory_mask,
                tgt_key_padding_mask,
                memory_key_padding_mask,
                tgt_is_causal,
                memory_is_causal,
            )
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder: src (N, S, E), tgt (N, L, E) -> (N, L, E). Embeddings and the last layer are the user's.

    Args:
        d_model: E.
        nhead: number of heads; divides E.
        num_encoder_layers, num_decoder_layers: numbers of layers.
        custom_encoder, custom_decoder: modules instead of the stacks of layers.

    The other arguments are those of `TransformerEncoderLayer`. The whole model of the paper is
    `corten.models.Transformer`.

    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762.

    >>> import corten as ct
    >>> net = ct.nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    >>> net(ct.zeros((3, 5, 8)), ct.zeros((3, 4, 8)), tgt_is_causal=True).shape
    (3, 4, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        settings: dict[str, Any] = {
            "dim_feedforward": dim_feedforward,
            "dropout": dropout,
            "activation": activation,
            "layer_norm_eps": layer_norm_eps,
            "batch_first": batch_first,
            "norm_first": norm_first,
            "bias": bias,
            "dtype": dtype,
            "device": device,
        }

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype, device=device)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(d_model, nhead, **settings), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(d_model, nhead, **settings), num_decoder_layers, norm()
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all matrices anew, with Glorot's initialisation."""
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """src (N, S, E), tgt (N, L, E) -> (N, L, E); masks as in `MultiheadAttention`: True is hidden."""
        for name, x in (("src", src), ("tgt", tgt)):
            is_tensor(f"[Transformer] {name}", x)
            if x.ndim == 0 or x.shape[-1] != self.d_model:
                raise ValueError(f"[Transformer] {name} must have size d_model={self.d_model}, got {x.shape}")
        memory = self.encoder(src, src_mask, src_key_padding_mask, is_causal=src_is_causal)
        y: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )
        return y

    @staticmethod
    def generate_square_subsequent_mask(sz: int, *, dtype: Any = None, device: str = "cpu") -> Tensor:
        """(sz, sz): -inf above the diagonal, 0 elsewhere. `is_causal` says the same without a mask, and faster.

        >>> import corten as ct
        >>> ct.nn.Transformer.generate_square_subsequent_mask(2).tolist()
        [[0.0, -inf], [0.0, 0.0]]
        """
        size = whole("[generate_square_subsequent_mask] sz", sz)
        return triu(full((size, size), float("-inf"), dtype=dtype, device=device), 1)
