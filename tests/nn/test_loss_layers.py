"""Loss modules: formulas, arguments, state and errors, as PyTorch has them."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn

F = nn.functional
rng = np.random.default_rng(0)
LOGITS = rng.standard_normal((6, 4))
LOG_P = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
TARGETS = np.array([0, 3, -100, 1, 1, 2])
KEPT = TARGETS != -100
W = np.array([0.5, 1.0, 2.0, 4.0])
NLL = -LOG_P[np.arange(6), TARGETS % 4]


def value(y: ct.Tensor) -> float:
    return float(y.item())


def test_class_weights_and_ignored_rows() -> None:
    x, t, w = ct.tensor(LOGITS), ct.tensor(TARGETS), ct.tensor(W)
    weights = np.where(KEPT, W[TARGETS % 4], 0)
    want = (NLL * weights).sum() / weights.sum()
    assert value(nn.CrossEntropyLoss(w)(x, t)) == pytest.approx(want, rel=1e-12)
    assert value(nn.NLLLoss(w)(F.log_softmax(x, 1), t)) == pytest.approx(want, rel=1e-12)
    assert value(nn.CrossEntropyLoss()(x, t)) == pytest.approx(NLL[KEPT].mean(), rel=1e-12)
    both = nn.CrossEntropyLoss(ignore_index=1)(x[3:], t[3:])
    assert value(both) == pytest.approx(NLL[5], rel=1e-12)


def test_label_smoothing() -> None:
    x, t = ct.tensor(LOGITS), ct.tensor(TARGETS)
    want = (0.8 * NLL - 0.2 * LOG_P.mean(1))[KEPT].mean()
    assert value(nn.CrossEntropyLoss(label_smoothing=0.2)(x, t)) == pytest.approx(want, rel=1e-12)
    with pytest.raises(ValueError, match="label_smoothing"):
        nn.CrossEntropyLoss(label_smoothing=1.5)


def test_the_weight_is_a_buffer() -> None:
    loss = nn.CrossEntropyLoss(ct.tensor(W))
    assert list(loss.state_dict()) == ["weight"]
    assert list(loss.parameters()) == []
    assert loss.to("float32").weight.dtype.name == "float32"
    assert nn.NLLLoss().state_dict() == {}
    with pytest.raises(TypeError, match="Tensor"):
        nn.CrossEntropyLoss("sum")  # type: ignore[arg-type]


def test_losses_of_differences() -> None:
    a, b = rng.standard_normal((3, 5)) * 2, rng.standard_normal((3, 5))
    x, t, d = ct.tensor(a), ct.tensor(b), abs(a - b)
    huber = np.where(d <= 0.5, d * d / 2, 0.5 * (d - 0.25))
    for layer, want in [
        (nn.L1Loss(), d.mean()),
        (nn.L1Loss("sum"), d.sum()),
        (nn.HuberLoss(delta=0.5), huber.mean()),
        (nn.SmoothL1Loss(beta=0.5), (huber / 0.5).mean()),
        (nn.SmoothL1Loss("sum", beta=0.0), d.sum()),
    ]:
        assert value(layer(x, t)) == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(nn.HuberLoss("none", delta=0.5)(x, t).numpy(), huber, rtol=1e-12)
    with pytest.raises(ValueError, match="delta"):
        nn.HuberLoss(delta=0)
    with pytest.raises(ValueError, match="beta"):
        nn.SmoothL1Loss(beta=-1)


def test_losses_of_probabilities() -> None:
    p, q = rng.dirichlet(np.ones(4), 6), rng.dirichlet(np.ones(4), 6)
    x, t = ct.tensor(np.log(q)), ct.tensor(p)
    each = p * (np.log(p) - np.log(q))
    assert value(nn.KLDivLoss("batchmean")(x, t)) == pytest.approx(each.sum() / 6, rel=1e-12)
    assert value(nn.KLDivLoss()(x, t)) == pytest.approx(each.mean(), rel=1e-12)
    logs = nn.KLDivLoss("sum", log_target=True)(x, ct.tensor(np.log(p)))
    assert value(logs) == pytest.approx(each.sum(), rel=1e-12)
    bce = -(p * np.log(q) + (1 - p) * np.log(1 - q))
    assert value(nn.BCELoss()(ct.tensor(q), t)) == pytest.approx(bce.mean(), rel=1e-12)
    assert value(nn.BCELoss(ct.tensor(p))(ct.tensor(q), t)) == pytest.approx((bce * p).mean(), rel=1e-12)
    with pytest.raises(ValueError, match="0 to 1"):
        nn.BCELoss()(ct.tensor(2 * np.ones(3)), ct.ones((3,), dtype="float64"))
    with pytest.raises(ValueError, match="batchmean"):
        nn.KLDivLoss("all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[kl_div\].*batch axis"):
        F.kl_div(ct.tensor(0.0), ct.tensor(1.0), reduction="batchmean")
