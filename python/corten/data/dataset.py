"""Sets of samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..checks import sized, whole
from ..functions import Tensor, asarray, from_numpy, take_rows

__all__ = ["Dataset", "Subset", "TensorDataset"]

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A set of samples that can be asked for by index: subclasses have `__len__` and `__getitem__`.

    A dataset that can fetch a whole batch faster than sample by sample has `fetch_batch(indices)` too, which returns
    the batch; `DataLoader` then uses it instead of collating samples.

    >>> import corten as ct
    >>> class Squares(ct.data.Dataset):
    ...     def __len__(self):
    ...         return 5
    ...     def __getitem__(self, i):
    ...         return ct.tensor([float(i)]), i * i
    >>> x, y = next(iter(ct.data.DataLoader(Squares(), batch_size=3)))
    >>> x.shape, y.tolist()
    ((3, 1), [0, 1, 4])
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"[{type(self).__name__}] has no __len__(self)")

    def __getitem__(self, index: int, /) -> T_co:
        raise NotImplementedError(f"[{type(self).__name__}] has no __getitem__(self, index)")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Tensors whose first axes run over the samples: sample i is `(t1[i], t2[i], ...)`.

    Args:
        tensors: tensors or arrays with the same size along axis 0; arrays share their memory.

    Raises:
        ValueError: there is none, one has no axes, or the sizes along axis 0 differ.

    >>> import corten as ct
    >>> data = ct.data.TensorDataset(ct.zeros((10, 3)), ct.arange(10))
    >>> len(data), data[4][1].item()
    (10, 4)
    """

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ValueError("[TensorDataset] needs at least one tensor")
        self.tensors: tuple[Tensor, ...] = tuple(asarray(t) for t in tensors)
        shapes = [t.shape for t in self.tensors]
        if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f"[TensorDataset] tensors must have the same size along axis 0, got shapes {shapes}")

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: int, /) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def fetch_batch(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> tuple[Tensor, ...]:
        """The samples at `indices`, stacked: one gather per tensor."""
        rows = from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        return tuple(take_rows(t, rows) for t in self.tensors)


class Subset(Dataset[T_co]):
    """The samples of another set at the given indices.

    >>> import corten as ct
    >>> data = ct.data.TensorDataset(ct.arange(10))
    >>> part = ct.data.Subset(data, [2, 5, 7])
    >>> len(part), part[1][0].item()
    (3, 5)
    """

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        size = sized("[Subset] dataset", dataset)
        self.dataset = dataset
        if not isinstance(indices, Iterable):
            raise TypeError(f"[Subset] indices must be a sequence of ints, not {type(indices).__name__}")
        self.indices = [whole("[Subset] index", i) for i in indices]
        for i in self.indices:
            if i >= size:
                raise IndexError(f"[Subset] index {i} is out of range for {size} samples")
        if hasattr(dataset, "fetch_batch"):
            self.fetch_batch = self._fetch_batch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> T_co:
        return self.dataset[self.indices[index]]

    def _fetch_batch(self, indices: Sequence[int]) -> Any:
        return self.dataset.fetch_batch([self.indices[i] for i in indices])  # type: ignore[attr-defined]  # asked for in __init__
