"""DataLoader: batches of samples, shuffled, fetched ahead on threads."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..checks import whole
from ..functions import Tensor, asarray, stack
from .dataset import Dataset
from .sampler import RandomSampler, SequentialSampler

__all__ = ["DataLoader", "default_collate"]


def default_collate(samples: Sequence[Any]) -> Any:
    """Make a batch of samples: stack tensors, arrays and numbers; go into tuples, lists and dictionaries.

    Raises:
        TypeError: the samples are of a kind that cannot be stacked.
        ValueError: the samples differ in shape.

    >>> import corten as ct
    >>> x, y = ct.data.default_collate([(ct.zeros((2,)), 1), (ct.ones((2,)), 0)])
    >>> x.tolist(), y.tolist()
    ([[0.0, 0.0], [1.0, 1.0]], [1, 0])
    """
    try:
        first = samples[0]
    except (TypeError, LookupError):
        raise ValueError(f"[default_collate] needs a list of at least one sample, got {samples!r}") from None
    if isinstance(first, Tensor):
        return stack(list(samples))
    if isinstance(first, np.ndarray | np.generic):
        return asarray(np.stack(samples))
    if isinstance(first, bool | int | float):
        return asarray(list(samples))
    if isinstance(first, str | bytes):
        return list(samples)
    if isinstance(first, dict):
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, tuple | list):
        if any(len(s) != len(first) for s in samples):
            raise ValueError(f"[default_collate] samples differ in length: {sorted({len(s) for s in samples})}")
        columns = [default_collate(column) for column in zip(*samples, strict=True)]
        if hasattr(first, "_fields"):  # a named tuple
            return type(first)(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    raise TypeError(f"[DataLoader] cannot stack samples of type {type(first).__name__}; give a collate_fn")


class DataLoader:
    """Goes through a dataset in batches; each `for` over it is one pass.

    Args:
        dataset: a `Dataset`, or anything with `__len__` and `__getitem__`.
        batch_size: samples in a batch; the last one may be smaller.
        shuffle: draw a new order for each pass.
        sampler: gives the order instead; then `shuffle` must be false.
        num_workers: threads that fetch batches ahead while the program computes; 0 fetches when a batch is asked for.
            Threads help when fetching waits (for a disk) or leaves Python (NumPy, decoding); order and content of the
            batches do not depend on their number.
        collate_fn: makes a batch of a list of samples; `default_collate` by default.
        drop_last: leave out a last batch that is not full.
        seed: of the shuffling; None draws it from corten's random numbers, which `corten.manual_seed` repeats.
        prefetch_factor: batches that each thread may be ahead.

    Raises:
        ValueError: an argument is out of range, or both `shuffle` and `sampler` are given.
        TypeError: an argument is of the wrong type.

    An exception in a dataset or a `collate_fn` comes out of the loop, with a note that names the samples. Leaving the
    loop early stops the threads.

    >>> import corten as ct
    >>> data = ct.data.TensorDataset(ct.zeros((10, 3)), ct.arange(10))
    >>> loader = ct.data.DataLoader(data, batch_size=4, shuffle=True, seed=0)
    >>> len(loader), [y.shape[0] for x, y in loader]
    (3, [4, 4, 2])
    """

    def __init__(
        self,
        dataset: Dataset[Any] | Sequence[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        *,
        seed: int | None = None,
        prefetch_factor: int = 2,
    ) -> None:
        batch_size = whole("[DataLoader] batch_size", batch_size, 1)
        num_workers = whole("[DataLoader] num_workers", num_workers)
        prefetch_factor = whole("[DataLoader] prefetch_factor", prefetch_factor, 1)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"[DataLoader] a dataset has __len__ and __getitem__, got {type(dataset).__name__}")
        if sampler is not None and not isinstance(sampler, Iterable):
            raise TypeError(f"[DataLoader] a sampler is an iterable of indices, got {type(sampler).__name__}")
        if collate_fn is not None and not callable(collate_fn):
            raise TypeError(f"[DataLoader] collate_fn must be callable, got {type(collate_fn).__name__}")
        if sampler is not None and shuffle:
            raise ValueError("[DataLoader] takes shuffle or a sampler, not both")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.prefetch_factor = prefetch_factor
        if sampler is None:
            sampler = RandomSampler(dataset, seed) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler

    def __len__(self) -> int:
        """Number of batches in one pass."""
        samples = len(self.sampler)  # type: ignore[arg-type]  # a sampler without a length raises TypeError here, and should
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        # The order is drawn now, not at the first next(): so it does not depend on what is drawn in between.
        order = iter(self.sampler)
        batches = self._batches(order)
        return self._prefetch(batches) if self.num_workers else map(self._fetch, batches)

    def _batches(self, order: Iterator[int]) -> Iterator[list[int]]:
        while indices := list(islice(order, min(self.batch_size, sys.maxsize))):
            if len(indices) == self.batch_size or not self.drop_last:
                yield indices

    def _fetch(self, indices: list[int]) -> Any:
        if self.collate_fn is None and hasattr(self.dataset, "fetch_batch"):
            try:
                return self.dataset.fetch_batch(indices)
            except Exception as error:
                error.add_note(f"while DataLoader fetched the samples {indices}")
                raise
        samples = []
        for index in indices:
            try:
                samples.append(self.dataset[index])
            except Exception as error:
                error.add_note(f"while DataLoader fetched sample {index}")
                raise
        try:
            return (self.collate_fn or default_collate)(samples)
        except Exception as error:
            error.add_note(f"while DataLoader made a batch of the samples {indices}")
            raise

    def _prefetch(self, batches: Iterator[list[int]]) -> Iterator[Any]:
        from concurrent.futures import Future, ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="corten-loader")
        pending: deque[Future[Any]] = deque()
        try:
            for indices in islice(batches, self.num_workers * self.prefetch_factor):
                pending.append(pool.submit(self._fetch, indices))
            while pending:
                batch = pending.popleft().result()
                for indices in islice(batches, 1):
                    pending.append(pool.submit(self._fetch, indices))
                yield batch
        finally:  # also when the consumer leaves the loop: what was not begun is dropped, what runs is waited for
            pool.shutdown(wait=True, cancel_futures=True)
