"""Encoder and decoder: the two ways through the decoder, forcing, translation, learning."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten.models import EncoderDecoder
from corten.nn import functional as F

SOURCE, TARGET = ct.tensor([[4, 5, 6, 0], [7, 8, 9, 4]]), ct.tensor([[1, 7, 5], [1, 4, 4]])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 2])
def test_steps_are_the_whole(cell: str, layers: int) -> None:
    """Forced by the truth at every step (but step by step) the logits are those of the one kernel."""
    ct.manual_seed(0)
    net = EncoderDecoder(10, 9, 6, 8, layers, cell, dtype="float64")  # type: ignore[arg-type]
    lengths = ct.tensor([3, 4])
    whole = net(SOURCE, TARGET, lengths)
    steps = net(SOURCE, TARGET, lengths, teacher_forcing=1 - 1e-12)
    assert whole.shape == (2, 3, 9)
    np.testing.assert_allclose(steps.detach().numpy(), whole.detach().numpy(), rtol=0, atol=1e-13)
    # Padding of the source is not read.
    other = ct.tensor([[4, 5, 6, 9], [7, 8, 9, 4]])
    assert net(other, TARGET, lengths).tolist() == whole.tolist()


def test_without_forcing_it_follows_itself() -> None:
    ct.manual_seed(0)
    net = EncoderDecoder(10, 9, 6, 8)
    logits = net(SOURCE, TARGET, teacher_forcing=0.0)
    own = ct.concat([TARGET[:, :1], ct.argmax(logits[:, :-1], -1)], axis=1)
    np.testing.assert_allclose(logits.detach().numpy(), net(SOURCE, own).detach().numpy(), rtol=0, atol=1e-6)
    written = net.translate(SOURCE, bos=1, eos=2, max_length=3)
    follows = ct.argmax(logits, -1).numpy()
    for row, free in zip(written.numpy(), follows, strict=True):
        end = list(row).index(2) + 1 if 2 in row else len(row)
        assert list(row[:end]) == list(free[:end])
        assert (row[end:] == 2).all()
    assert net.training


def test_it_learns_to_write_backwards() -> None:
    ct.manual_seed(0)
    rng = np.random.default_rng(0)
    net = EncoderDecoder(7, 7, 16, 48, cell="gru")
    optimizer = ct.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(250):
        source = rng.integers(3, 7, (32, 4))
        target = np.concatenate([np.ones((32, 1), int), source[:, ::-1], np.full((32, 1), 2)], axis=1)
        optimizer.zero_grad()
        logits = net(ct.tensor(source), ct.tensor(target[:, :-1]))
        F.cross_entropy(logits.reshape(-1, 7), ct.tensor(target[:, 1:].reshape(-1))).backward()
        optimizer.step()
    source = rng.integers(3, 7, (100, 4))
    written = net.translate(ct.tensor(source), 1, 2, 5).numpy()
    right = (written[:, :4] == source[:, ::-1]).all(axis=1).mean()
    # 4 of 4 digits right by chance: 0.4 %.
    assert right > 0.9


def test_wrong_arguments() -> None:
    net = EncoderDecoder(10, 9)
    with pytest.raises(ValueError, match=r"source must be \(N, S\) tokens, got \(2,\)"):
        net(ct.tensor([1, 2]), TARGET)
    with pytest.raises(ValueError, match=r"target must be \(N, T\) tokens, at least one each, got \(2, 0\)"):
        net(SOURCE, TARGET[:, :0])
    with pytest.raises(ValueError, match="cell must be"):
        EncoderDecoder(10, 9, cell="mlp")  # type: ignore[arg-type]
    assert net.translate(SOURCE, 1, 2, 0).shape == (2, 0)
