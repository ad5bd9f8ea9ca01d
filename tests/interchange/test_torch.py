"""Both ways with PyTorch, where it is installed."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import corten as ct

torch = pytest.importorskip("torch")

DTYPES = [*ct.__array_namespace_info__().dtypes()]


def same(t: ct.Tensor, u: torch.Tensor) -> bool:
    return (
        t.dtype.name == str(u.dtype).removeprefix("torch.") and t.shape == tuple(u.shape) and t.tolist() == u.tolist()
    )


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_both_ways(name: str) -> None:
    t = ct.tensor([[0, 1, 1], [1, 0, 2]]).astype(name)
    u = torch.from_dlpack(t)
    assert same(t, u)
    assert same(ct.from_dlpack(u), u)
    assert same(ct.tensor(u), u)
    assert same(ct.from_dlpack(u.T), u.T)


VIEWS = {
    "dense": lambda t: t,
    "transposed": lambda t: t.T,
    "stepped": lambda t: t[:, ::2],
    "broadcast": lambda t: t[:1].expand((4, 3)),
    "no axes": lambda t: t[0, 1],
    "no elements": lambda t: t[:0],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_share_both_ways(view: str) -> None:
    t = VIEWS[view](ct.tensor(np.arange(6, dtype=np.float32).reshape(2, 3)))
    u = torch.from_dlpack(t)
    assert same(t, u)
    if t.size:
        assert u.data_ptr() == t.numpy().ctypes.data
    w = VIEWS[view](torch.arange(6.0).reshape(2, 3))
    x = ct.from_dlpack(w)
    assert same(x, w)
    if x.size:
        assert x.numpy().ctypes.data == w.data_ptr()


def test_backwards_views_go_out_as_copies() -> None:
    t = ct.tensor([1.0, 2.0, 3.0])[::-1]
    assert torch.from_dlpack(t).tolist() == [3, 2, 1]


def test_copies_are_private() -> None:
    t = ct.ones(3)
    u = torch.from_dlpack(t, copy=True)
    u += 1
    assert t.tolist() == [1, 1, 1]
    old = torch.from_dlpack(t.__dlpack__())  # the old protocol
    old += 1
    assert t.tolist() == [1, 1, 1]
    x = ct.from_dlpack(u, copy=True)
    u += 1
    assert x.tolist() == [2, 2, 2]


def test_lifetimes() -> None:
    u = torch.from_dlpack(ct.ones(1000))
    gc.collect()
    churn = [ct.zeros(1000) for _ in range(20)]
    assert u.sum().item() == 1000
    w = torch.ones(1000)
    t = ct.from_dlpack(w)
    w.add_(1)
    assert t.sum().item() == 2000
    address = w.data_ptr()
    del w
    assert t.sum().item() == 2000
    assert t.numpy().ctypes.data == address
    del t
    assert len(churn) == 20


def test_old_capsules_of_pytorch() -> None:
    capsule = torch.utils.dlpack.to_dlpack(torch.arange(3.0))
    assert ct.from_dlpack(capsule).tolist() == [0, 1, 2]
    with pytest.raises(BufferError, match="once"):
        ct.from_dlpack(capsule)


def test_what_is_refused() -> None:
    with pytest.raises(BufferError, match="detach"):
        ct.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(BufferError, match="detach"):
        torch.from_dlpack(ct.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="complex64"):
        ct.from_dlpack(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="complex64"):
        ct.tensor(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(BufferError):
        ct.from_dlpack(torch.ones(2).to_sparse())


def test_a_checkpoint_moves_over() -> None:
    """The keys are PyTorch's, so a state_dict of the one loads into the other."""
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )
    ours = ct.nn.Sequential(ct.nn.Conv2d(1, 2, 3), ct.nn.BatchNorm2d(2), ct.nn.Flatten(), ct.nn.Linear(8, 3))
    ours.load_state_dict({k: ct.from_dlpack(v) for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, 1, 4, 4)).astype(np.float32)
    with torch.no_grad():
        want = theirs.eval()(torch.from_numpy(x)).numpy()
    # Sums of at most 9 products, normalised, then of 8: some 20 roundings of 2^-24 on values below 4.
    np.testing.assert_allclose(ours.eval()(ct.tensor(x)).detach().numpy(), want, atol=20 * 4 * 2**-24)
    theirs.load_state_dict({k: torch.from_dlpack(v.detach()) for k, v in ours.state_dict().items()})
