"""GPT: a decoder-only Transformer that predicts the next token, with GPT-2's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from .. import nn
from ..checks import at_least, is_tensor, layers, whole
from ..functions import Tensor, argmax, concat, no_grad, where, zeros
from ..nn import functional as F
from ..nn import init
from ..text import sample
from .cache import KVCache

__all__ = ["GPT"]


def _likeliest(logits: Tensor) -> Tensor:
    return argmax(logits, -1)


class _Conv1D(nn.Module):
    """A linear map whose weight is (in, out), as GPT-2 keeps it: x (*, in) -> (*, out)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, size: int, out: int, std: float, dtype: Any, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(zeros((size, out), dtype=dtype, device=device))
        self.bias = nn.Parameter(zeros((out,), dtype=dtype, device=device))
        init.normal_(self.weight, 0.0, std)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)


class _Attention(nn.Module):
    def __init__(self, size: int, heads: int, dropout: float, std: float, dtype: Any, device: str) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.c_attn = _Conv1D(size, 3 * size, 0.02, dtype, device)
        self.c_proj = _Conv1D(size, size, std, dtype, device)
        self.resid_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        n, t, e = x.shape
        qkv = self.c_attn(x).reshape(n, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]  # (N, heads, T, size)
        offset = 0
        if cache is not None:
            offset = cache.used
            k, v = cache.append(layer, k, v)
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, None, p, t > 1, offset=offset)
        out: Tensor = self.resid_dropout(self.c_proj(y.transpose(1, 2).reshape(n, t, e)))
        return out


class _MLP(nn.Module):
    def __init__(self, size: int, dropout: float, std: float, dtype: Any, device: str) -> None:
        super().__init__()
        self.c_fc = _Conv1D(size, 4 * size, 0.02, dtype, device)
        self.c_proj = _Conv1D(4 * size, size, std, dtype, device)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))
        return y


class _Block(nn.Module):
    def __init__(self, size: int, heads: int, dropout: float, eps: float, std: float, dtype: Any, device: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(size, eps, dtype=dtype, device=device)
        self.attn = _Attention(size, heads, dropout, std, dtype, device)
        self.ln_2 = nn.LayerNorm(size, eps, dtype=dtype, device=device)
        self.mlp = _MLP(size, dropout, std, dtype, device)

    def forward(self, x: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache, layer)
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class GPT(nn.Module):
    """GPT-2: tokens (N, T) -> logits of the next token at each place (N, T, vocabulary).

    Learnt positions, pre-norm blocks of causal attention and a GELU net, a last norm; the output matrix is the
    embedding's (tied). Parameters have GPT-2's names and layout (`wte.weight`, `h.0.attn.c_attn.weight` (E, 3 E),
    ...), so its published checkpoints load with `load_state_dict(..., strict=False)` (they also hold masks, which
    nobody needs).

    Args:
        vocab_size: number of tokens.
        n_positions: the longest sequence.
        n_embd: E.
        n_layer: number of blocks.
        n_head: number of heads; divides E.
        dropout: probability of a zero, in training: of embeddings, weights and each part's result.
        layer_norm_epsilon: `eps` of the norms.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

    >>> import corten as ct
    >>> net = ct.models.GPT(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3)
    >>> tokens = ct.tensor([[1, 2, 3]])
    >>> net(tokens).shape, net.generate(tokens, 4, temperature=0).shape
    ((1, 3, 11), (1, 7))
    """

    def __init__(
        self,
        vocab_size: int = 50257,
        n_positions: int = 1024,
        n_embd: int = 768,
        n_layer: int = 12,
        n_head: int = 12,
        dropout: float = 0.1,
        layer_norm_epsilon: float = 1e-5,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "n_positions": n_positions, "n_embd": n_embd, "n_head": n_head}
        for name, value in sizes.items():
            whole(f"[GPT] {name}", value, 1)
        layers("[GPT] n_layer", n_layer)
        if n_embd % n_head:
            raise ValueError(f"[GPT] n_head={n_head} must divide n_embd={n_embd}")
        self.vocab_size, self.n_positions, self.n_embd, self.n_head = vocab_size, n_positions, n_embd, n_head
        # Each block adds two results to the residual stream, whose variance should not grow with their number.
        std = 0.02 / math.sqrt(max(1, 2 * n_layer))
        self.wte = nn.Embedding(vocab_size, n_embd, dtype=dtype, device=device)
        self.wpe = nn.Embedding(n_positions, n_embd, dtype=dtype, device=device)
        init.normal_(self.wte.weight, 0.0, 0.02)
        init.normal_(self.wpe.weight, 0.0, 0.02)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(
            [_Block(n_embd, n_head, dropout, layer_norm_epsilon, std, dtype, device) for _ in range(n_layer)]
        )
        self.ln_f = nn.LayerNorm(n_embd, layer_norm_epsilon, dtype=dtype, device=device)

    def forward(self, tokens: Tensor, cache: KVCache | None = None, last: bool = False) -> Tensor:
        """Logits (N, T, vocabulary), or (N, 1, vocabulary) of the last place alone.

        Args:
            tokens: integers (N, T).
            cache: keys and values of the tokens before these, to which theirs are added.
            last: only the last place is wanted.
        """
        is_tensor("[GPT] tokens", tokens)
        if tokens.ndim != 2:
            raise ValueError(f"[GPT] tokens must be (N, T), got {tokens.shape}")
        t = tokens.shape[1]
        start = 0 if cache is None else cache.used
        if start + t > self.n_positions:
            raise ValueError(f"[GPT] {start + t} tokens are more than the n_positions={self.n_positions} there are")
        x = self.drop(self.wte(tokens) + self.wpe.weight[start : start + t])
        for layer, block in enumerate(self.h):
            x = block(x, cache, layer)
        if cache is not None:
            cache.advance(t)
        if last:
            x = x[:, -1:]
        return F.linear(self.ln_f(x), self.wte.weight)

    def _stepper(self, cache: KVCache) -> Callable[[Tensor], Tensor]:
        """`forward(token, cache)[:, 0]` in evaluation for single tokens (N, 1), with as few calls as possible."""
        n, h, _, d = cache.shape
        e, wte, wpe, norm = self.n_embd, self.wte.weight, self.wpe.weight, self.ln_f
        blocks = []
        for block in self.h:
            b: Any = block
            maps = [(m.weight.T, m.bias) for m in (b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj)]
            blocks.append((b.ln_1.weight, b.ln_1.bias, b.ln_2.weight, b.ln_2.bias, b.ln_1.eps, *maps))
        head = wte.T.contiguous().T  # a vector times this is read in place
        linear, layer_norm, attend = F.linear, F.layer_norm, F.scaled_dot_product_attention

        def step(token: Tensor) -> Tensor:
            at = cache.used
            x = F.embedding(token.reshape(n), wte) + wpe[at : at + 1]  # (N, E)
            for i, (w1, b1, w2, b2, eps, attn, proj, fc, out) in enumerate(blocks):
                z = linear(layer_norm(x, (e,), w1, b1, eps), *attn).reshape(n, 3 * h, 1, d)
                k, v = cache.append_token(i, z[:, h:])
                x = x + linear(attend(z[:, :h], k, v).reshape(n, e), *proj)
                x = x + linear(F.gelu(linear(layer_norm(x, (e,), w2, b2, eps), *fc), "tanh"), *out)
            cache.advance(1)
            return linear(layer_norm(x, (e,), norm.weight, norm.bias, norm.eps), head)

        return step

    def cache(self, batch: int, length: int | None = None) -> KVCache:
        """An empty cache for `batch` sequences of up to `length` tokens (`n_positions` by default)."""
        w = self.wte.weight
        length = self.n_positions if length is None else min(whole("[GPT.cache] length", length), self.n_positions)
        size = self.n_embd // self.n_head
        return KVCache(len(self.h), batch, self.n_head, length, size, dtype=w.dtype, device=w.device)

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Iterable[int] = (),
        *,
        use_cache: bool = True,
        sampler: Callable[[Tensor], Tensor] | None = None,
        on_token: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Continue each sequence: tokens (N, T) -> (N, T + at most `max_new_tokens`).

        A sequence ends with a token of `stop`, which is repeated until the longest has ended. When there are more
        tokens than positions, the last `n_positions` are looked at. Dropout is off meanwhile.

        Args:
            tokens: integers (N, T), T at least 1.
            max_new_tokens: how many tokens are added at most.
            temperature, top_k, top_p: how to draw, as in `corten.text.sample`; temperature 0 takes the likeliest.
            stop: tokens that end a sequence.
            use_cache: keep keys and values; without, everything is computed anew for each token, with the same result.
            sampler: draws from logits (N, vocabulary) instead, such as a `corten.text.Sampler`.
            on_token: called with each new token (N,), for showing text while it is made.
        """
        is_tensor("[GPT.generate] tokens", tokens)
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise ValueError(f"[GPT.generate] tokens must be (N, T) with at least one token each, got {tokens.shape}")
        count = whole("[GPT.generate] max_new_tokens", max_new_tokens)
        at_least("[GPT.generate] temperature", temperature)
        stops = [whole("[GPT.generate] stop", s) for s in stop]
        training = self.training
        self.eval()
        try:
            with no_grad():
                return self._generate(tokens, count, temperature, top_k, top_p, stops, use_cache, sampler, on_token)
        finally:
            self.train(training)

    def _generate(
        self,
        tokens: Tensor,
        count: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        stops: list[int],
        use_cache: bool,
        sampler: Callable[[Tensor], Tensor] | None,
        on_token: Callable[[Tensor], None] | None,
    ) -> Tensor:
        n = tokens.shape[0]
        cache = self.cache(n, tokens.shape[1] + count) if use_cache else None
        found = [tokens]
        new = tokens[:, -self.n_positions :]
        ended: Tensor | None = None
        step = None if cache is None else self._stepper(cache)
        if sampler is None and temperature == 0:
            sampler = _likeliest
        for _ in range(count):
            if cache is not None and cache.used + new.shape[1] > self.n_positions:
                # The window moves on: every position changes, and with it every key.
                cache.reset()
                new = concat(found, 1)[:, -self.n_positions :]
            elif cache is None:
                new = concat(found, 1)[:, -self.n_positions :]
            if step is not None and new.shape[1] == 1:
                logits = step(new)
            else:
                logits = self.forward(new, cache, last=True)[:, 0]
            drawn = sampler(logits) if sampler is not None else sample(logits, temperature, top_k, top_p)
            if ended is not None:
                drawn = where(ended, found[-1][:, -1], drawn)
            new = drawn.reshape(n, 1)
            found.append(new)
            if on_token is not None:
                on_token(drawn)
            for s in stops:
                ended = drawn == s if ended is None else ended | (drawn == s)
            if ended is not None and bool(ended.all().item()):
                break
        return concat(found, 1)
