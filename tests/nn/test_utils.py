"""Clipping of gradients: values, order, dtypes, threads; parameters as a vector."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.nn import utils

rng = np.random.default_rng(0)


def params(*grads: np.ndarray | None) -> list[ct.Tensor]:
    made = []
    for g in grads:
        p = ct.zeros((1,) if g is None else g.shape, dtype="float64", requires_grad=True)
        p.grad = None if g is None else ct.tensor(g)
        made.append(p)
    return made


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.5, math.inf])
def test_gradients_are_scaled_together(norm_type: float) -> None:
    grads = [rng.standard_normal(s) for s in [(3, 4), (5,), (0,), ()]]
    flat = np.concatenate([np.ravel(g) for g in grads])
    want = np.abs(flat).max() if norm_type == math.inf else (np.abs(flat) ** norm_type).sum() ** (1 / norm_type)
    p = params(*(np.asarray(g) for g in grads), None)
    before = p[0].grad
    total = utils.clip_grad_norm_(p, want / 2, norm_type)
    np.testing.assert_allclose(total.item(), want, rtol=1e-12)
    for one, g in zip(p, grads, strict=False):
        assert one.grad is not None
        np.testing.assert_allclose(one.grad.numpy(), g * (want / 2) / (want + 1e-6), rtol=1e-12)
    assert p[-1].grad is None
    assert before is not None
    np.testing.assert_array_equal(before.numpy(), grads[0])  # tensors are values
    # Short enough: untouched, every bit of it.
    kept = p[0].grad.numpy().copy()  # type: ignore[union-attr]
    utils.clip_grad_norm_(p, want, norm_type)
    np.testing.assert_array_equal(p[0].grad.numpy(), kept)  # type: ignore[union-attr]


def test_generators_single_tensors_and_nothing() -> None:
    (p,) = params(np.array([3.0, 4.0]))
    assert utils.clip_grad_norm_(p, 1.0).item() == 5.0
    assert utils.clip_grad_norm_((q for q in [p]), 10.0).item() == pytest.approx(1.0)
    assert utils.clip_grad_norm_([], 1.0).item() == 0.0
    assert utils.clip_grad_norm_(params(None), 1.0).item() == 0.0
    utils.clip_grad_value_([], 1.0)
    with pytest.raises(TypeError, match=r"\[clip_grad_norm_\] expected tensors.*int"):
        utils.clip_grad_norm_([1], 1.0)  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"\[clip_grad_norm_\] max_norm"):
        utils.clip_grad_norm_([p], -1.0)
    with pytest.raises(ValueError, match=r"\[clip_grad_value_\] clip_value"):
        utils.clip_grad_value_([p], math.nan)


def test_values_are_cut_off() -> None:
    (p,) = params(np.array([3.0, -4.0, 0.5, math.nan]))
    utils.clip_grad_value_([p], 1.0)
    assert p.grad is not None
    np.testing.assert_array_equal(p.grad.numpy(), [1.0, -1.0, 0.5, math.nan])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite(bad: float) -> None:
    (p,) = params(np.array([1.0, bad]))
    with pytest.raises(RuntimeError, match=r"norm of the gradients is (nan|inf)"):
        utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad is not None
    np.testing.assert_array_equal(p.grad.numpy(), [1.0, bad])  # raised before anything was scaled
    assert not math.isfinite(float(utils.clip_grad_norm_([p], 1.0).item()))
    assert np.isnan(p.grad.numpy()).any()  # not hidden


def test_mixed_dtypes() -> None:
    a, b = ct.zeros(1, requires_grad=True), ct.zeros(1, dtype="float64", requires_grad=True)
    a.grad, b.grad = ct.tensor([3.0]), ct.tensor([4.0], dtype="float64")
    total = utils.clip_grad_norm_([a, b], 1.0)
    assert (total.item(), total.dtype) == (5.0, ct.float32)
    assert (a.grad.dtype, b.grad.dtype) == (ct.float32, ct.float64)


def test_sixteen_bits() -> None:
    """Squares beyond 65504 and sums of thousands of numbers."""
    p = ct.zeros(5000, dtype="float16", requires_grad=True)
    p.grad = ct.full((5000,), 500.0, dtype="float16")
    total = utils.clip_grad_norm_([p], 100.0)
    np.testing.assert_allclose(total.item(), 500 * math.sqrt(5000), rtol=1e-6)
    assert p.grad.dtype.name == "float16"
    np.testing.assert_allclose(p.grad.numpy(), 100 / math.sqrt(5000), rtol=2**-11)


def test_thread_counts_change_no_bit() -> None:
    grads = [rng.standard_normal(s).astype(np.float32) for s in [(300, 400), (70_001,), (5,)]]

    def run() -> bytes:
        p = [ct.zeros(g.shape, requires_grad=True) for g in grads]
        for one, g in zip(p, grads, strict=True):
            one.grad = ct.tensor(g)
        total = utils.clip_grad_norm_(p, 1.0)
        return total.numpy().tobytes() + b"".join(one.grad.numpy().tobytes() for one in p if one.grad is not None)

    from corten import _core

    ct.set_num_threads(1)
    alone = run()
    _core._force_threads(True)
    for threads in (2, 3, 8):
        ct.set_num_threads(threads)
        assert run() == alone


def test_parameters_as_a_vector() -> None:
    layer = nn.Linear(3, 2)
    vector = utils.parameters_to_vector(layer.parameters())
    assert vector.requires_grad
    utils.vector_to_parameters(vector.detach() * 2, layer.parameters())
    np.testing.assert_array_equal(utils.parameters_to_vector(layer.parameters()).tolist(), (vector * 2).tolist())
    with pytest.raises(ValueError, match=r"8 elements.*\(3,\)"):
        utils.vector_to_parameters(ct.zeros(3), layer.parameters())
