"""Datasets, samplers and the loader: order, batches, threads, errors."""

from __future__ import annotations

import threading
import time
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import corten as ct
from corten.data import DataLoader, Dataset, RandomSampler, SequentialSampler, Subset, TensorDataset, default_collate


class Items(Dataset[tuple[ct.Tensor, int]]):
    """Sample by sample, so that nothing takes the fast path."""

    def __init__(self, size: int, bad: int | None = None) -> None:
        self.size, self.bad = size, bad
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> tuple[ct.Tensor, int]:
        self.threads.add(threading.current_thread().name)
        if index == self.bad:
            raise RuntimeError("cannot read this one")
        return ct.full((2,), float(index)), index


def loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("corten-loader")]


def labels(loader: DataLoader) -> list[int]:
    return [i for _, y in loader for i in y.tolist()]


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("fast", [False, True])
def test_batches(workers: int, fast: bool) -> None:
    n = 11
    data: Any = TensorDataset(ct.arange(2 * n, dtype="float32").reshape(n, 2), ct.arange(n)) if fast else Items(n)
    batches = list(DataLoader(data, batch_size=4, num_workers=workers))
    assert [x.shape for x, _ in batches] == [(4, 2), (4, 2), (3, 2)]
    assert labels(DataLoader(data, batch_size=4, num_workers=workers)) == list(range(n))
    loader = DataLoader(data, batch_size=4, drop_last=True, num_workers=workers)
    assert len(loader) == 2
    assert len(list(loader)) == 2
    assert len(DataLoader(data, batch_size=4)) == 3
    assert not loader_threads()


def test_fast_path_equals_slow_path() -> None:
    rng = np.random.default_rng(0)
    data = TensorDataset(rng.standard_normal((10, 3, 2)).astype(np.float32), rng.integers(0, 9, 10))
    fast = list(DataLoader(data, 3, shuffle=True, seed=4))
    slow = list(DataLoader([data[i] for i in range(10)], 3, shuffle=True, seed=4))
    for a, b in zip(fast, slow, strict=True):
        for s, t in zip(a, b, strict=True):
            assert s.dtype == t.dtype
            np.testing.assert_array_equal(s.numpy(), t.numpy())


def test_shuffle_is_a_permutation_and_new_at_each_pass() -> None:
    loader = DataLoader(TensorDataset(ct.zeros((50,)), ct.arange(50)), batch_size=7, shuffle=True)
    first, second = labels(loader), labels(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))


def test_shuffle_repeats_with_the_global_seed() -> None:
    data = TensorDataset(ct.zeros((50,)), ct.arange(50))
    ct.manual_seed(3)
    loader = DataLoader(data, 8, shuffle=True)
    runs = [labels(loader), labels(loader)]
    ct.manual_seed(3)
    loader = DataLoader(data, 8, shuffle=True, num_workers=2)
    assert [labels(loader), labels(loader)] == runs


def test_shuffle_with_its_own_seed_ignores_everything_else() -> None:
    data = TensorDataset(ct.zeros((50,)), ct.arange(50))
    loader = DataLoader(data, 8, shuffle=True, seed=7)
    runs = [labels(loader), labels(loader)]
    assert runs[0] != runs[1]
    ct.manual_seed(99)
    other = DataLoader(data, 8, shuffle=True, seed=7)
    again = [labels(other)]
    ct.rand(5)
    again.append(labels(other))
    assert again == runs
    assert labels(DataLoader(data, 8, shuffle=True, seed=8)) != runs[0]


def test_seeded_order_never_changes() -> None:
    # A fixed order: experiments of last year must repeat with the NumPy of next year.
    assert list(RandomSampler(range(8), seed=0)) == [3, 2, 1, 6, 0, 7, 4, 5]


def test_permutation_is_uniform() -> None:
    counts = np.zeros((4, 4), int)
    for seed in range(2000):
        for place, index in enumerate(RandomSampler(range(4), seed=seed)):
            counts[place, index] += 1
    # 500 expected, deviation 19: six deviations.
    assert np.abs(counts - 500).max() < 120


def test_sampler() -> None:
    data = TensorDataset(ct.arange(10))
    assert [x.tolist() for (x,) in DataLoader(data, 2, sampler=[9, 1, 5])] == [[9, 1], [5]]
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    with pytest.raises(ValueError, match="not both"):
        DataLoader(data, sampler=[1], shuffle=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_come_out_with_the_sample_named(workers: int) -> None:
    loader = DataLoader(Items(20, bad=9), batch_size=4, num_workers=workers)
    seen: list[int] = []

    def consume() -> None:
        for _, y in loader:
            seen.extend(y.tolist())

    with pytest.raises(RuntimeError, match="cannot read this one") as error:
        consume()
    assert seen == list(range(8))  # all batches before the bad one came
    assert any("sample 9" in note for note in error.value.__notes__)
    assert not loader_threads()


def test_errors_of_the_fast_path_and_of_collating_are_named() -> None:
    with pytest.raises(IndexError) as error:
        list(DataLoader(TensorDataset(ct.arange(3)), sampler=[1, 7], batch_size=2))
    assert any("[1, 7]" in note for note in error.value.__notes__)
    ragged = [ct.zeros((2,)), ct.zeros((3,))]
    with pytest.raises(ValueError) as error:
        list(DataLoader(ragged, batch_size=2))
    assert any("[0, 1]" in note for note in error.value.__notes__)


@pytest.mark.parametrize("workers", [1, 4])
def test_leaving_early_leaves_no_thread(workers: int) -> None:
    data = Items(1000)
    for _ in DataLoader(data, batch_size=2, num_workers=workers):
        assert loader_threads()
        break
    assert not loader_threads()
    assert threading.current_thread().name not in data.threads
    iterator = iter(DataLoader(data, batch_size=2, num_workers=workers))
    next(iterator)
    del iterator
    assert not loader_threads()


def test_prefetching_is_bounded() -> None:
    fetched: list[int] = []

    class Counting(Items):
        def __getitem__(self, index: int, /) -> tuple[ct.Tensor, int]:
            fetched.append(index)
            return super().__getitem__(index)

    iterator = iter(DataLoader(Counting(100), num_workers=2, prefetch_factor=2))
    next(iterator)
    time.sleep(0.05)
    assert len(fetched) <= 5  # the one that was taken and 2 x 2 ahead
    iterator.close()  # type: ignore[attr-defined]


def test_threads_overlap_waiting() -> None:
    barrier = threading.Barrier(4, timeout=20)

    class Meeting(Items):
        def __getitem__(self, index: int, /) -> tuple[ct.Tensor, int]:
            barrier.wait()  # passes only if four threads are here at once
            return super().__getitem__(index)

    assert len(list(DataLoader(Meeting(8), batch_size=1, num_workers=4))) == 8


def test_collate() -> None:
    point = namedtuple("point", "x y")  # noqa: PYI024 - the untyped kind must work too
    batch = default_collate([point(1, "a"), point(2, "b")])
    assert isinstance(batch, point)
    assert batch.x.tolist() == [1, 2]
    assert batch.y == ["a", "b"]
    batch = default_collate(
        [{"a": np.zeros(2, np.float32), "b": [1.5, 2]}, {"a": np.ones(2, np.float32), "b": [3.5, 4]}]
    )
    assert batch["a"].shape == (2, 2)
    assert [b.tolist() for b in batch["b"]] == [[1.5, 3.5], [2, 4]]
    assert default_collate([True, False]).dtype == ct.bool_
    with pytest.raises(TypeError, match="collate_fn"):
        default_collate([object()])
    with pytest.raises(ValueError, match="length"):
        default_collate([(1,), (1, 2)])
    assert list(DataLoader([1, 2, 3], 2, collate_fn=sum)) == [3, 3]


def test_tensor_dataset() -> None:
    data = TensorDataset(np.arange(6, dtype=np.float32).reshape(3, 2), ct.arange(3))
    assert len(data) == 3
    assert data[1][0].tolist() == [2.0, 3.0]
    assert data[-1][1].item() == 2
    with pytest.raises(ValueError, match="same size along axis 0"):
        TensorDataset(ct.zeros((3,)), ct.zeros((4,)))
    with pytest.raises(ValueError, match="same size"):
        TensorDataset(ct.tensor(1.0))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()


def test_subset() -> None:
    data = TensorDataset(ct.arange(10))
    part = Subset(data, [3, 1, 8])
    assert [x.tolist() for (x,) in DataLoader(part, 2)] == [[3, 1], [8]]
    assert part[2][0].item() == 8
    assert not hasattr(Subset(Items(4), [1]), "fetch_batch")
    with pytest.raises(IndexError, match="10 is out of range"):
        Subset(data, [10])


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"batch_size": 0}, "batch_size"), ({"num_workers": -1}, "num_workers"), ({"prefetch_factor": 0}, "prefetch")],
)
def test_bad_arguments(settings: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        DataLoader(TensorDataset(ct.arange(3)), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 1.5}, "batch_size must be an int, got 1.5"),
        ({"batch_size": None}, "batch_size"),
        ({"num_workers": "2"}, "num_workers"),
        ({"seed": 0.5, "shuffle": True}, "seed"),
        ({"sampler": 3}, "sampler is an iterable"),
        ({"collate_fn": 3}, "collate_fn must be callable"),
    ],
)
def test_arguments_of_the_wrong_type(settings: dict[str, Any], match: str) -> None:
    """They are found when the loader is made, not in the middle of an epoch."""
    with pytest.raises(TypeError, match=match):
        DataLoader(TensorDataset(ct.arange(3)), **settings)


def test_no_dataset() -> None:
    with pytest.raises(TypeError, match=r"\[DataLoader\].*__len__.*got int"):
        DataLoader(3)  # type: ignore[arg-type]
