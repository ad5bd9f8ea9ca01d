"""Sampling: which classes can come, how often, and that a seed repeats it; perplexity."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corten as ct
from corten.text import Sampler, perplexity, sample

LOGITS = ct.tensor([[2.0, 0.0, 1.0, -1.0]])
P = np.exp([2.0, 0.0, 1.0, -1.0]) / np.exp([2.0, 0.0, 1.0, -1.0]).sum()
DRAWS = 20_000


def shares(**options: float) -> np.ndarray:
    """How often each class comes."""
    sampler = Sampler(**options, seed=1)  # type: ignore[arg-type]
    drawn = sampler(ct.broadcast_to(LOGITS, (DRAWS, 4))).numpy()
    return np.bincount(drawn, minlength=4) / DRAWS


def check(found: np.ndarray, weight: np.ndarray) -> None:
    p = weight / weight.sum()
    # Five standard deviations of a binomial share; what cannot come must not.
    assert (np.abs(found - p) <= 5 * np.sqrt(p * (1 - p) / DRAWS)).all(), (found, p)


def test_frequencies() -> None:
    check(shares(), P)
    check(shares(temperature=2.0), np.sqrt(P))
    check(shares(temperature=0.5), P**2)
    check(shares(top_k=2), P * [1, 0, 1, 0])
    check(shares(top_k=99), P)
    check(shares(top_p=1.0), P)
    # 0.644, 0.881, 0.968: three classes reach 0.9, two reach 0.88.
    check(shares(top_p=0.9), P * [1, 1, 1, 0])
    check(shares(top_p=0.88), P * [1, 0, 1, 0])
    check(shares(top_p=1e-9), P * [1, 0, 0, 0])
    # Among the two of top_k the first has 0.731.
    check(shares(top_k=2, top_p=0.7), P * [1, 0, 0, 0])


def test_greedy_takes_the_lowest_of_equals() -> None:
    logits = ct.tensor([[1.0, 5.0, 5.0], [7.0, 7.0, 7.0]])
    assert sample(logits, temperature=0).tolist() == [1, 0]
    assert sample(ct.tensor([0.0, 1.0]), temperature=0).item() == 1
    assert sample(ct.zeros((2, 3, 5)), temperature=0).shape == (2, 3)
    assert sample(ct.zeros((0, 5))).shape == (0,)


def test_minus_infinity_never_comes() -> None:
    logits = ct.broadcast_to(ct.tensor([-math.inf, 0.0, -math.inf, 0.0]), (500, 4))
    assert set(Sampler(seed=2)(logits).tolist()) == {1, 3}
    infinite = ct.broadcast_to(ct.tensor([0.0, math.inf, math.inf]), (500, 3))
    assert set(Sampler(seed=2)(infinite).tolist()) == {1, 2}


def test_hot_and_cold_extremes() -> None:
    logits = ct.tensor([[1e30, -1e30, 0.0]])
    assert Sampler(1e-300)(logits).tolist() == [0]
    check(shares(temperature=1e30), np.ones(4))


def test_seeds_repeat() -> None:
    logits = ct.zeros((64, 10))
    ct.manual_seed(5)
    first, second = sample(logits).tolist(), sample(logits).tolist()
    ct.manual_seed(5)
    assert sample(logits).tolist() == first
    assert first != second
    one, other = Sampler(seed=5), Sampler(seed=5)
    ct.manual_seed(0)
    assert one(logits).tolist() == other(logits).tolist()
    # In pieces or at once: a draw is a function of its number.
    assert one(logits).tolist() == other(logits[:20]).tolist() + other(logits[20:]).tolist()
    assert Sampler(seed=6)(logits).tolist() != Sampler(seed=5)(logits).tolist()


def test_dtypes() -> None:
    for dtype in ("float16", "bfloat16", "float64"):
        assert sample(LOGITS.astype(dtype), temperature=0).tolist() == [0]


def test_wrong_arguments() -> None:
    for options, text in [
        ({"temperature": -1}, "temperature must be at least 0, got -1"),
        ({"temperature": math.nan}, "temperature must be at least 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be positive"),
        ({"top_p": 1.5}, "top_p must be at most 1"),
    ]:
        with pytest.raises(ValueError, match=text):
            sample(LOGITS, **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=text):
            Sampler(**options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="logits must be floats, got int64"):
        sample(ct.tensor([1, 2]))
    with pytest.raises(TypeError, match=r"must be a corten.Tensor"):
        sample([1.0])  # type: ignore[arg-type]
    for bad in ([math.nan, 1.0], [-math.inf, -math.inf]):
        with pytest.raises(ValueError, match="must hold no NaN"):
            sample(ct.tensor(bad))
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match="at least one class"):
            sample(ct.zeros(shape))


def test_perplexity() -> None:
    target = ct.tensor([[0, 2], [-100, 3]])
    logits = ct.broadcast_to(LOGITS, (2, 2, 4))
    expected = math.exp(-np.log(P[[0, 2, 3]]).mean())
    assert perplexity(logits, target) == pytest.approx(expected, rel=1e-12)
    assert perplexity(logits, ct.zeros((2, 2), dtype="int64")) == pytest.approx(1 / P[0], rel=1e-12)
    with pytest.raises(ValueError, match=r"got \(2, 2, 4\) and \(2,\)"):
        perplexity(logits, ct.tensor([0, 1]))
    with pytest.raises(ValueError, match="no target counts"):
        perplexity(logits, ct.full((2, 2), -100, dtype="int64"))
