"""Sequences of several lengths in one tensor, and the masks that say what is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import is_tensor, sized, whole
from ..functions import Tensor, arange, tensor

__all__ = ["causal_mask", "pad_sequences", "padding_mask"]


def pad_sequences(
    sequences: Sequence[Sequence[int]], value: int = 0, length: int | None = None, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Sequences as one tensor (N, T), filled up with `value`, and their lengths (N,).

    Args:
        sequences: of token numbers, such as a tokenizer gives; may be empty ones.
        value: what fills up.
        length: T; the longest by default.
        left: fill up before the tokens, not after them.

    Raises:
        ValueError: a sequence is longer than `length`.

    >>> import corten as ct
    >>> tokens, lengths = ct.text.pad_sequences([[5, 6, 7], [8]])
    >>> tokens.tolist(), lengths.tolist()
    ([[5, 6, 7], [8, 0, 0]], [3, 1])
    """
    sized("[pad_sequences] sequences", sequences)
    lengths = [sized(f"[pad_sequences] sequences[{i}]", s) for i, s in enumerate(sequences)]
    longest = max(lengths, default=0)
    count = longest if length is None else whole("[pad_sequences] length", length)
    if longest > count:
        raise ValueError(f"[pad_sequences] a sequence of {longest} tokens is longer than length={count}")
    fill = whole("[pad_sequences] value", value, -(2**63))
    try:
        rows = np.full((len(lengths), count), fill, np.int64)
    except (MemoryError, ValueError) as error:  # NumPy has words of its own for a size beyond all memory
        shape = (len(lengths), count)
        raise MemoryError(f"[pad_sequences] no memory for {shape}: {error}") from error
    for i, (row, sequence, n) in enumerate(zip(rows, sequences, lengths, strict=True)):
        try:
            row[count - n if left else 0 : count if left else n] = list(sequence)
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f"[pad_sequences] sequences[{i}] must hold whole numbers: {error}") from None
    return tensor(rows), tensor(np.array(lengths, np.int64))


def padding_mask(lengths: Tensor, length: int) -> Tensor:
    """Where padding is: lengths (N,) -> bool (N, length), True behind the lengths.

    It is what `key_padding_mask` of `nn.MultiheadAttention` takes; `~mask` is what `F.scaled_dot_product_attention`
    calls a mask, for which `lengths` says the same faster.

    >>> import corten as ct
    >>> ct.text.padding_mask(ct.tensor([3, 1]), 3).tolist()
    [[False, False, False], [False, True, True]]
    """
    is_tensor("[padding_mask] lengths", lengths)
    if lengths.ndim != 1:
        raise ValueError(f"[padding_mask] lengths must be (N,), got {lengths.shape}")
    return arange(whole("[padding_mask] length", length)) >= lengths.reshape(-1, 1)


def causal_mask(length: int, keys: int | None = None, offset: int = 0) -> Tensor:
    """Which keys lie ahead: bool (length, keys), True where key j > i + offset; `~mask` is what may be looked at.

    It is what `attn_mask` of `nn.MultiheadAttention` takes; `is_causal=True` says the same faster.

    >>> import corten as ct
    >>> ct.text.causal_mask(2).tolist()
    [[False, True], [False, False]]
    """
    rows = whole("[causal_mask] length", length)
    columns = rows if keys is None else whole("[causal_mask] keys", keys)
    return arange(columns) > (arange(rows) + offset).reshape(rows, 1)
