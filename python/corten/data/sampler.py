"""Samplers: in which order samples are taken."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np

from ..checks import sized, whole
from ..functions import randint

__all__ = ["RandomSampler", "Sampler", "SequentialSampler"]


class Sampler:
    """An iterable over the indices of samples; subclasses have `__iter__` and `__len__`."""

    def __iter__(self) -> Iterator[int]:
        raise NotImplementedError(f"[{type(self).__name__}] has no __iter__(self)")

    def __len__(self) -> int:
        raise NotImplementedError(f"[{type(self).__name__}] has no __len__(self)")


class SequentialSampler(Sampler):
    """0, 1, 2, ...: the order of the data.

    >>> import corten as ct
    >>> list(ct.data.SequentialSampler(range(3)))
    [0, 1, 2]
    """

    def __init__(self, data: Sized) -> None:
        self._size = sized(f"[{type(self).__name__}] data", data)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._size))

    def __len__(self) -> int:
        return self._size


class RandomSampler(Sampler):
    """Every index once, in an order that is drawn anew at each pass.

    Args:
        data: something with a length.
        seed: makes the orders a function of the seed and of the number of the pass, whatever else draws random
            numbers. None draws each pass's order from corten's random numbers, which `corten.manual_seed` repeats.

    >>> import corten as ct
    >>> sampler = ct.data.RandomSampler(range(5), seed=1)
    >>> sorted(sampler)
    [0, 1, 2, 3, 4]
    """

    def __init__(self, data: Sized, seed: int | None = None) -> None:
        if seed is not None:
            seed = whole("[RandomSampler] seed", seed)
        self._size = sized("[RandomSampler] data", data)
        self._seed = seed
        self._passes = 0

    def permutation(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The order of the next pass, as an array."""
        seed = int(randint(0, 2**31 - 1, (1,)).item()) if self._seed is None else self._seed
        number = 0 if self._seed is None else self._passes
        self._passes += 1
        # Sorting raw draws, because NumPy promises to keep the bit stream, but not what `permutation` makes of it.
        keys = np.random.PCG64(np.random.SeedSequence([seed, number])).random_raw(self._size)
        return np.argsort(keys, kind="stable").astype(np.int64)

    def __iter__(self) -> Iterator[int]:
        return iter(self.permutation().tolist())

    def __len__(self) -> int:
        return self._size
