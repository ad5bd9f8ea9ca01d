"""PyTorch's spelling of padding, patches and one-hot vectors."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten.nn import functional as F


@pytest.mark.parametrize(
    ("widths", "pairs"),
    [
        ((1, 2), ((0, 0), (0, 0), (1, 2))),
        ((1, 2, 0, 3), ((0, 0), (0, 3), (1, 2))),
        ((0, 1, 2, 3, 4, 5), ((4, 5), (2, 3), (0, 1))),
        ((), ((0, 0),) * 3),
    ],
)
def test_widths_come_last_axis_first(widths, pairs) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for mode, numpys in (("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")):
        np.testing.assert_array_equal(F.pad(ct.tensor(x), widths, mode).numpy(), np.pad(x, pairs, numpys))


def test_negative_widths_crop() -> None:
    x = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(F.pad(ct.tensor(x), (-1, -2)).numpy(), x[:, 1:2])
    np.testing.assert_array_equal(F.pad(ct.tensor(x), (-1, 1, 1, -1)).numpy(), np.pad(x[:2, 1:], ((1, 0), (0, 1))))
    assert F.pad(ct.tensor(x), (-3, -3)).shape == (3, 0)


def test_wrong_widths_are_refused() -> None:
    for widths in ((1,), (1, 1, 1, 1, 1, 1)):
        with pytest.raises(ValueError, match=r"\[pad\].*\(2, 3\)"):
            F.pad(ct.zeros((2, 3)), widths)


def test_a_convolution_is_a_product_with_patches() -> None:
    rng = np.random.default_rng(0)
    x = ct.tensor(rng.normal(size=(2, 3, 6, 5)), requires_grad=True)
    w = ct.tensor(rng.normal(size=(4, 3, 3, 2)))
    direct = F.conv2d(x, w, stride=(2, 1), padding=(1, 0))
    patches = F.unfold(x, (3, 2), padding=(1, 0), stride=(2, 1))
    product = (w.reshape(4, -1) @ patches).reshape(direct.shape)
    np.testing.assert_allclose(product.detach().numpy(), direct.detach().numpy(), rtol=0, atol=1e-12)
    g = ct.tensor(rng.normal(size=direct.shape))
    (a,) = ct.grad([direct], [x], [g])
    (b,) = ct.grad([product], [x], [g])
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-12)


def test_one_hot() -> None:
    assert F.one_hot(ct.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert F.one_hot(ct.tensor([[1]]), 2).shape == (1, 1, 2)
    assert F.one_hot(ct.tensor([1]), 2).dtype == ct.int64
    assert ct.one_hot(ct.tensor([1]), 2, dtype="float32").dtype == ct.float32


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8"])
def test_integers_keep_their_dtype(dtype) -> None:
    x = np.arange(1, 13, dtype=dtype).reshape(3, 4)
    t = ct.tensor(x)
    for got, want in (
        (ct.pad(t, 2, "reflect"), np.pad(x, 2, "reflect")),
        (ct.repeat(t, 2, 1), np.repeat(x, 2, 1)),
        (ct.tile(t, (2, 1)), np.tile(x, (2, 1))),
        (ct.roll(t, 1), np.roll(x, 1)),
        (ct.diff(t), np.diff(x)),
        (ct.tensordot(t, t, ([1], [1])), np.tensordot(x, x, ([1], [1]))),
        (ct.einsum("ij,kj->ik", t, t), np.einsum("ij,kj->ik", x, x)),
        (ct.einsum("ij->", t), np.einsum("ij->", x)),
    ):
        assert got.dtype.name == dtype
        np.testing.assert_array_equal(got.numpy(), want)
