"""From logits to the next token, and how well a model predicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..functions import Tensor, exp, rand, tensor
from ..nn.functional import cross_entropy

__all__ = ["Sampler", "perplexity", "sample"]

_Array = np.ndarray[Any, np.dtype[np.float64]]


def _check(rule: str, temperature: float, top_k: int | None, top_p: float | None) -> None:
    checks.at_least(f"{rule} temperature", temperature)
    if top_k is not None:
        checks.whole(f"{rule} top_k", top_k, 1)
    if top_p is not None:
        checks.positive(f"{rule} top_p", top_p)
        if top_p > 1:
            raise ValueError(f"{rule} top_p must be at most 1, got {top_p}")


def _rows(rule: str, logits: Tensor) -> _Array:
    """Logits as float64 (rows, classes), checked."""
    checks.is_tensor(f"{rule} logits", logits)
    if logits.dtype.name not in ("float32", "float64", "float16", "bfloat16"):
        raise TypeError(f"{rule} logits must be floats, got {logits.dtype.name}")
    if logits.ndim < 1 or logits.shape[-1] == 0:
        raise ValueError(f"{rule} logits must be (..., classes) with at least one class, got shape {logits.shape}")
    rows = logits.detach().astype("float64").numpy().reshape(-1, logits.shape[-1])
    if np.isnan(rows).any() or (rows.max(axis=1, initial=-np.inf) == -np.inf).any():
        raise ValueError(f"{rule} logits must hold no NaN, and in each row something above -inf")
    return rows


def _draw(rows: _Array, uniform: _Array, temperature: float, top_k: int | None, top_p: float | None) -> Any:
    """One class per row: the first at which the cumulated probability passes `uniform`, most likely classes first."""
    # Stable: among equals the lower class comes first, whatever the machine.
    order = np.argsort(-rows, axis=1, kind="stable")
    if temperature == 0:
        return order[:, 0]
    ranked = np.take_along_axis(rows, order, axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = ranked - ranked[:, :1]
        gap[np.isnan(gap)] = 0.0  # inf - inf: equals of the greatest
        weight = np.exp(gap / temperature)
    if top_k is not None:
        weight[:, top_k:] = 0.0
    total = np.cumsum(weight, axis=1)
    if top_p is not None:
        # The fewest classes that reach top_p: those before which the sum is still below it.
        weight[(total - weight) >= top_p * total[:, -1:]] = 0.0
        weight[:, 0] = 1.0
        total = np.cumsum(weight, axis=1)
    place = (total <= uniform[:, None] * total[:, -1:]).sum(axis=1)
    last = (weight > 0).sum(axis=1) - 1  # uniform * total may round up to total
    return np.take_along_axis(order, np.minimum(place, last)[:, None], axis=1)[:, 0]


def sample(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Draw a class from logits: `logits (..., classes) -> int64 (...)`.

    Draws with probability `softmax(logits / temperature)` among what `top_k` and `top_p` leave. Random numbers are
    corten's, which `corten.manual_seed` repeats; one is taken per row. `Sampler` has a seed of its own.

    Args:
        logits: floats; -inf rules a class out.
        temperature: below 1 prefers the likely, above 1 the surprising; 0 is greedy: always the most likely class, the
            lowest of several.
        top_k: only the `top_k` most likely classes.
        top_p: only the fewest most likely classes whose probabilities, after `temperature` and `top_k`, reach `top_p`
            (nucleus sampling, Holtzman et al. 2020).

    Raises:
        ValueError: an argument is out of range, or a row of the logits has a NaN or nothing but -inf.
        TypeError: `logits` are no float tensor, or an argument is no number.

    >>> import corten as ct
    >>> logits = ct.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 9.0]])
    >>> ct.text.sample(logits, temperature=0).tolist()
    [1, 2]
    >>> ct.text.sample(logits, top_k=1).tolist()
    [1, 2]
    """
    _check("[sample]", temperature, top_k, top_p)
    rows = _rows("[sample]", logits)
    uniform = rand(len(rows), dtype="float64").numpy() if temperature else np.zeros(len(rows))
    drawn = _draw(rows, uniform, float(temperature), top_k, top_p)
    return tensor(drawn.astype(np.int64)).reshape(logits.shape[:-1])


class Sampler:
    """`sample` with fixed options and random numbers of its own, which nothing else draws from.

    The n-th draw is a function of the seed, n and the logits. Arguments and errors are those of `sample`.

    >>> import corten as ct
    >>> logits = ct.zeros((5,))
    >>> draws = [int(s(logits).item()) for s in [ct.text.Sampler(seed=3)] for _ in range(4)]
    >>> again = ct.text.Sampler(seed=3)
    >>> draws == [int(again(logits).item()) for _ in range(4)]
    True
    """

    def __init__(
        self, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, *, seed: int = 0
    ) -> None:
        _check("[Sampler]", temperature, top_k, top_p)
        self.temperature = float(temperature)
        self.top_k = top_k
        self.top_p = top_p
        self.seed = checks.whole("[Sampler] seed", seed)
        self._bits = np.random.PCG64(self.seed)

    def __call__(self, logits: Tensor) -> Tensor:
        rows = _rows("[Sampler]", logits)
        # Raw bits, because NumPy promises to keep their stream; 53 of them make a double.
        uniform: _Array = (self._bits.random_raw(len(rows)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        drawn = _draw(rows, uniform, self.temperature, self.top_k, self.top_p)
        return tensor(drawn.astype(np.int64)).reshape(logits.shape[:-1])


def perplexity(logits: Tensor, target: Tensor, ignore_index: int = -100) -> float:
    """`exp` of the mean of `-log softmax(logits)[target]`: among how many tokens the model is in doubt, on average.

    Args:
        logits: (..., classes).
        target: int64 (...).
        ignore_index: targets of this number do not count.

    Raises:
        ValueError: the shapes do not fit, or no target counts.

    >>> import corten as ct
    >>> round(ct.text.perplexity(ct.zeros((2, 3, 27)), ct.zeros((2, 3), dtype="int64")), 6)
    27.0
    """
    checks.is_tensor("[perplexity] logits", logits)
    checks.is_tensor("[perplexity] target", target)
    if logits.ndim < 1 or logits.shape[:-1] != target.shape:
        raise ValueError(
            f"[perplexity] logits must be (..., classes) and target (...), got {logits.shape} and {target.shape}"
        )
    classes = logits.shape[-1]
    flat = target.reshape((-1,))
    if not bool((flat != ignore_index).any().item()):
        raise ValueError("[perplexity] no target counts")
    rows = logits.detach().astype("float64").reshape((-1, classes))
    return float(exp(cross_entropy(rows, flat, ignore_index=ignore_index)).item())
