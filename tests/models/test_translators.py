"""The paper's Transformer and sequence to sequence with attention: shapes, padding, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn

BOS, EOS = 1, 2


def transformer() -> ct.models.Transformer:
    ct.manual_seed(0)
    return ct.models.Transformer(9, 9, 24, 3, 1, 48, dropout=0.0, norm_first=True)


def seq2seq() -> ct.models.Seq2Seq:
    ct.manual_seed(0)
    return ct.models.Seq2Seq(9, 9, 12, 24)


def logits(net: nn.Module, *args: ct.Tensor) -> ct.Tensor:
    y = net(*args)
    return y[0] if isinstance(y, tuple) else y


def made(net: nn.Module, *args: object) -> ct.Tensor:
    y = net.translate(*args)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("make", [transformer, seq2seq])
def test_padding_of_the_source_does_not_show(make) -> None:
    net = make().eval()
    source, target = ct.tensor([[3, 4, 5]]), ct.tensor([[BOS, 6]])
    padded = ct.tensor([[3, 4, 5, 0, 7], [8, 3, 4, 5, 6]])
    both = ct.concat([target, target], 0)
    plain = logits(net, source, target, ct.tensor([3])).detach().numpy()
    other = logits(net, padded, both, ct.tensor([3, 5])).detach().numpy()
    np.testing.assert_allclose(other[:1], plain, rtol=1e-4, atol=1e-5)  # float32 sums of up to 48 terms
    assert np.abs(other[1] - other[0]).max() > 1e-3


@pytest.mark.parametrize("make", [transformer, seq2seq])
def test_a_place_sees_only_what_came_before(make) -> None:
    net = make().eval()
    source = ct.tensor([[3, 4, 5]])
    a = logits(net, source, ct.tensor([[BOS, 6, 7, 8]])).detach().numpy()
    b = logits(net, source, ct.tensor([[BOS, 6, 3, 3]])).detach().numpy()
    np.testing.assert_allclose(a[:, :2], b[:, :2], rtol=1e-5, atol=1e-6)
    assert np.abs(a[:, 2:] - b[:, 2:]).max() > 1e-3


@pytest.mark.parametrize("make", [transformer, seq2seq])
def test_learns_to_reverse(make) -> None:
    net = make()
    rng = np.random.default_rng(0)
    optimizer = ct.optim.Adam(net.parameters(), lr=3e-3)

    def batch(n: int) -> tuple[ct.Tensor, ct.Tensor]:
        x = rng.integers(3, 9, (n, 4))
        ends = np.full((n, 1), BOS), np.full((n, 1), EOS)
        return ct.tensor(x), ct.tensor(np.concatenate([ends[0], x[:, ::-1], ends[1]], 1))

    for _ in range(250):
        x, y = batch(64)
        optimizer.zero_grad()
        out = logits(net, x, y[:, :-1])
        nn.functional.cross_entropy(out.reshape(-1, 9), y[:, 1:].reshape(-1)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    x, y = batch(100)
    found = made(net, x, BOS, EOS, 6).numpy()
    right = (found[:, :5] == y.numpy()[:, 1:]).all(1).mean() if found.shape[1] >= 5 else 0.0
    assert right > 0.9, f"{right:.0%} of unseen sequences were reversed"
    assert not (found[:, 5:] != EOS).any() or right < 1


def test_attention_of_both_can_be_looked_at(tmp_path) -> None:
    source, target = ct.tensor([[3, 4, 5]]), ct.tensor([[BOS, 6]])
    weights = transformer().attention(source, target)
    assert weights.shape == (1, 2, 3)
    np.testing.assert_allclose(weights.sum(-1).numpy(), 1, rtol=1e-6)
    _, alignment = seq2seq()(source, target)
    assert alignment.shape == (1, 2, 3)
    pytest.importorskip("matplotlib")
    path = ct.viz.attention_map(tmp_path / "map.png", alignment[0], ["a", " "], list("xyz"), annotate=True)
    assert path.stat().st_size > 1000
    ct.viz.attention_map(tmp_path / "heads.svg", ct.ones((5, 2, 3)))
    with pytest.raises(ValueError, match=r"queries must be 2 names"):
        ct.viz.attention_map(tmp_path / "map.png", alignment[0], ["a"])
    with pytest.raises(ValueError, match=r"weights must be \(L, S\) or \(heads, L, S\)"):
        ct.viz.attention_map(tmp_path / "map.png", ct.ones(3))


def test_shared_embeddings_are_one_parameter() -> None:
    net = ct.models.Transformer(9, 9, 8, 2, 1, 16, share_embeddings=True)
    assert net.source_embedding is net.target_embedding
    with pytest.raises(ValueError, match="one vocabulary"):
        ct.models.Transformer(9, 8, 8, 2, 1, 16, share_embeddings=True)


def test_teacher_forcing_may_be_left_out() -> None:
    net = seq2seq().eval()
    source, target = ct.tensor([[3, 4, 5]]), ct.tensor([[BOS, 6, 7]])
    own, _ = net(source, target, teacher_forcing=0.0)
    first = int(ct.argmax(own[0, 0], -1).item())
    given, _ = net(source, ct.tensor([[BOS, first, 7]]))
    np.testing.assert_allclose(own[:, :2].detach().numpy(), given[:, :2].detach().numpy(), rtol=1e-5, atol=1e-6)
