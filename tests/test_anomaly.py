"""Anomaly mode: the place where a NaN is born is named, and only that place."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import corten as ct
from corten import _core, nn
from corten.autograd import AnomalyError, Function, anomaly
from corten.train import NonFiniteLossError, Trainer

NAN, INF = float("nan"), float("inf")


def t(values, grad: bool = False) -> ct.Tensor:
    return ct.tensor(values, dtype="float64", requires_grad=grad)


def off() -> bool:
    return not _core._anomaly_is_on() and anomaly.active == 0 and not anomaly._layers.stack


# -- forward


def test_the_forward_error_says_everything() -> None:
    x = t([[4.0, 9.0], [-1.0, -2.0]])
    with ct.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        ct.sqrt(x)  # this very line
    error = caught.value
    assert (error.op, error.phase, error.layer, error.count, error.first, error.shape) == (
        "sqrt",
        "forward",
        None,
        2,
        (1, 0),
        (2, 2),
    )
    text = str(error)
    assert "[sqrt] a NaN was born here, in the forward pass" in text
    assert "2 of 4 elements, the first at (1, 0)" in text
    assert "input 0: (2, 2) float64 from -2 to 9" in text
    assert "test_anomaly.py" in text
    assert "pytest" not in text  # neither what runs the test nor corten itself
    assert "ct.sqrt(x)  # this very line" in text
    assert isinstance(error, FloatingPointError)
    assert off()


def test_it_names_the_birth_and_not_what_passes_it_on() -> None:
    x = t([1.0, -1.0])
    with ct.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        ((ct.log(x) + 1.0) * 2.0).sum()
    assert caught.value.op == "log"


def test_a_nan_that_comes_in_is_no_anomaly() -> None:
    x = t([1.0, NAN], True)
    with ct.detect_anomaly():
        y = (ct.exp(x) * 2.0).sum()
        y.backward()
        assert np.isnan(y.item())
        assert np.isnan(x.grad.tolist()).tolist() == [False, True]
        assert ct.where(ct.isnan(x), 0.0, x).tolist() == [1.0, 0.0]
        y, g = ct.exp(x), ct.ones((2,), dtype="float64")
        ct.grad(ct.grad(y, x, g, create_graph=True), x, g)


def test_infinity_minus_infinity_is_born_there_and_explained() -> None:
    x = t([INF, 1.0])
    with ct.detect_anomaly(), pytest.raises(AnomalyError, match=r"\[subtract\].*\n.*1 infinite, the first at \(0,\)"):
        x - x


def test_infinities_on_request() -> None:
    x = t([0.0, 1.0])
    with ct.detect_anomaly():
        assert ct.log(x).tolist() == [-INF, 0.0]
    with ct.detect_anomaly(check_inf=True), pytest.raises(AnomalyError, match=r"\[log\] an infinity was born here"):
        ct.log(x)
    with ct.detect_anomaly(check_inf=True):
        assert ct.exp(t([INF])).tolist() == [INF]  # it came in
    assert off()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ct.logsumexp(t([-INF, -INF])),
        lambda: ct.softplus(t([1000.0, -1000.0])),
        lambda: ct.norm(t([0.0, 0.0])),
        lambda: ct.softmax(t([-INF, 0.0])),
        lambda: nn.functional.elu(t([1000.0, -1000.0])),
        lambda: nn.functional.binary_cross_entropy_with_logits(t([1000.0]), t([1.0])),
    ],
)
def test_operations_that_mask_a_nan_inside_raise_nothing(call) -> None:
    plain = call()
    assert not np.isnan(plain.numpy()).any()
    with ct.detect_anomaly():
        np.testing.assert_array_equal(call().numpy(), plain.numpy())


def test_a_users_mask_does_not_hide_the_birth() -> None:
    """The classical trap: the value is masked, the gradient will be NaN."""
    x = t([4.0, -1.0], True)
    with ct.detect_anomaly(), pytest.raises(AnomalyError, match=r"\[sqrt\]"):
        ct.where(x > 0, ct.sqrt(x), 0.0)


def test_without_recording_too() -> None:
    with ct.detect_anomaly(), ct.no_grad(), pytest.raises(AnomalyError, match=r"\[divide\]"):
        t([0.0]) / t([0.0])


def test_strided_values_are_seen() -> None:
    x = t(np.arange(12.0).reshape(3, 4) - 5).mT[1:, ::2]  # element (1, 0) is 2 - 5
    with ct.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        ct.log(x)
    assert caught.value.first == (0, 0)
    assert caught.value.count == int((x.numpy() < 0).sum())


def test_integer_operations_are_left_alone() -> None:
    with ct.detect_anomaly():
        assert (ct.tensor([1, 2]) + 1).tolist() == [2, 3]


# -- backward


def test_the_backward_error_names_operation_and_line_of_the_forward() -> None:
    x = t([4.0, 0.0], True)
    with ct.detect_anomaly():
        y = ct.sqrt(x)  # born of this line
        z = (y * 0.0).sum()
        with pytest.raises(AnomalyError) as caught:
            z.backward()
    error = caught.value
    assert (error.op, error.phase, error.count, error.first) == ("sqrt", "backward", 1, (1,))
    text = str(error)
    assert "[sqrt] a NaN was born here, in the backward pass" in text
    assert "ct.sqrt(x)  # born of this line" in text
    assert "gradient of output 0: (2,) float64 from 0 to 0" in text
    assert x.grad is None
    assert off()


def test_backward_with_create_graph() -> None:
    x = t([4.0, 0.0], True)
    with ct.detect_anomaly():
        z = (ct.sqrt(x) * 0.0).sum()
        with pytest.raises(AnomalyError, match=r"\[sqrt\].*backward pass"):
            ct.grad(z, x, create_graph=True)


def test_the_second_derivative_keeps_the_place_of_the_first() -> None:
    x = t([0.0], True)
    with ct.detect_anomaly():
        y = x**1.5  # the first derivative is 0, the second is infinite
        g = ct.grad(y.sum(), x, create_graph=True)
        with pytest.raises(AnomalyError) as caught:
            (g * 0.0).sum().backward()
    assert "x**1.5  # the first derivative" in str(caught.value)


def test_a_sum_of_gradients_that_is_born_nan() -> None:
    x = t([1.0], True)
    up, down = x * 1.0, x * 1.0
    with ct.detect_anomaly(), pytest.raises(AnomalyError, match=r"(?s)\[add\].*1 infinite"):
        _core.grad([up, down], [x], [t([INF]), t([-INF])])


def test_a_graph_made_before_the_mode_has_no_line_but_a_name() -> None:
    x = t([0.0], True)
    z = (ct.sqrt(x) * 0.0).sum()
    with ct.detect_anomaly(), pytest.raises(AnomalyError, match=r"\[sqrt\]") as caught:
        z.backward()
    assert " at " not in str(caught.value).split("\n")[-1]


def test_custom_functions_are_named() -> None:
    class Rude(Function):
        @staticmethod
        def forward(ctx, x):
            return ct.tensor(np.full(x.shape, 1.0))

        @staticmethod
        def backward(ctx, g):
            return ct.tensor(np.full(g.shape, NAN))

    class RudeForward(Rude):
        @staticmethod
        def forward(ctx, x):
            return ct.tensor(np.full(x.shape, NAN))

    x = t([1.0, 2.0], True)
    with ct.detect_anomaly():
        with pytest.raises(AnomalyError, match=r"\[RudeForward\].*forward pass"):
            RudeForward.apply(x)
        with pytest.raises(AnomalyError, match=r"\[Rude\].*backward pass"):
            Rude.apply(x).sum().backward()


# -- layers


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.bad = False

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return ct.log(x * 0.0 - 1.0) if self.bad else x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Block(), nn.Linear(3, 2))

    def forward(self, x):
        return self.features(x)


def test_the_path_of_the_layer() -> None:
    net = Net()
    net.features[2].bad = True  # type: ignore[index]
    with ct.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        net(ct.ones((2, 3)))
    assert caught.value.layer == "features.2 (Block)"
    assert "layer features.2 (Block)" in str(caught.value)
    assert "net(ct.ones((2, 3)))" in str(caught.value)  # from the outside in
    assert "ct.log(x * 0.0 - 1.0)" in str(caught.value)
    assert off()


@pytest.mark.parametrize(("at", "name"), [(0, "features.0 (Linear)"), (3, "features.3 (Linear)")])
def test_layers_that_run_fused_otherwise(at: int, name: str) -> None:
    """Infinite inputs against weights of different signs: inf - inf within the product."""
    net = Net()
    weight = np.ones(net.features[at].weight.shape, dtype=np.float32)  # type: ignore[index]
    weight[:, 1] *= -1
    net.features[at].weight.assign_(ct.tensor(weight))  # type: ignore[index]
    layer = net.features[at]  # type: ignore[index]
    x = ct.full((1, 3), INF)
    assert np.isnan(layer(x).detach().numpy()).any()
    net.features[0] = nn.Identity() if at else net.features[0]  # type: ignore[index]
    if at:
        net.features[1] = net.features[2] = nn.Identity()  # type: ignore[index]
    with ct.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        net(x)
    assert caught.value.layer == name
    assert caught.value.op == "linear"


def test_layers_in_a_list_and_backward() -> None:
    net = Net()
    with ct.detect_anomaly():
        y = net(ct.ones((2, 3)))
        bad = ct.sqrt(y.sum() * 0.0) * 0.0
        with pytest.raises(AnomalyError) as caught:
            bad.backward()
        assert caught.value.layer is None  # outside of every layer

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleDict({"a": Half()})

        def forward(self, x):
            return self.inner["a"](x) * 0.0

    class Half(nn.Module):
        def forward(self, x):
            return ct.sqrt(x)

    with ct.detect_anomaly():
        loss = Root()(t([0.0], True)).sum()
        with pytest.raises(AnomalyError) as caught:
            loss.backward()
    assert caught.value.layer == "inner.a (Half)"
    assert caught.value.phase == "backward"


def test_results_are_the_same_in_the_mode() -> None:
    ct.manual_seed(0)
    net, x = Net(), ct.randn(5, 3)
    plain = net(x).detach()
    with ct.detect_anomaly():
        watched = net(x).detach()
    np.testing.assert_array_equal(plain.numpy(), watched.numpy())


# -- the switch


def test_nesting_decorator_and_exceptions() -> None:
    assert off()
    with ct.detect_anomaly():
        with ct.detect_anomaly(check_inf=True):
            pass
        assert ct.log(t([0.0])).tolist() == [-INF]
        with pytest.raises(AnomalyError):
            ct.log(t([-1.0]))
    assert off()

    @ct.detect_anomaly()
    def inner(x):
        return ct.log(x)

    with pytest.raises(AnomalyError):
        inner(t([-1.0]))
    assert off()
    assert np.isnan(ct.log(t([-1.0])).item())


def test_a_failed_call_leaves_nothing_for_the_next() -> None:
    with ct.detect_anomaly():
        with pytest.raises(AnomalyError):
            ct.log(t([-1.0]))
        assert (t([1.0]) + 1.0).tolist() == [2.0]
        with pytest.raises(ValueError, match="shape"):
            t([1.0, 2.0]) + t([1.0, 2.0, 3.0])
        assert (t([1.0]) + 1.0).tolist() == [2.0]


def test_threads_have_layers_of_their_own() -> None:
    class Slow(nn.Module):
        def __init__(self, barrier: threading.Barrier) -> None:
            super().__init__()
            self.barrier = barrier

        def forward(self, x):
            self.barrier.wait(10)
            return ct.log(x)

    barrier, layers = threading.Barrier(3), []

    def work(name: str) -> None:
        net = nn.Sequential({name: Slow(barrier)})
        try:
            net(t([-1.0]))
        except AnomalyError as error:
            layers.append(error.layer)

    with ct.detect_anomaly():
        threads = [threading.Thread(target=work, args=(f"part{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(layers) == [f"part{i} (Slow)" for i in range(3)]


@pytest.mark.parametrize(("value", "born"), [("1", "-1.0"), ("inf", "0.0"), ("0", None)])
def test_the_environment_turns_it_on(value: str, born: str | None) -> None:
    code = f"import corten as ct; ct.log(ct.tensor({born or '-1.0'}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "CORTEN_ANOMALY": value}, capture_output=True, text=True
    )
    assert (done.returncode == 0) == (born is None), done.stderr
    assert ("[log]" in done.stderr) == (born is not None)


# -- the Trainer


class Logarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.squash = Squash()

    def forward(self, x):
        return self.squash(self.layer(x))


class Squash(nn.Module):
    def forward(self, x):
        return ct.log(x.abs() * 0.0 - 1.0)


def trainer(**options) -> Trainer:
    model = Logarithm()
    return Trainer(model, nn.MSELoss(), ct.optim.SGD(model.parameters(), lr=0.1), **options)


def test_the_trainer_suggests_it_and_takes_it() -> None:
    data = ct.ones((8, 2)), ct.ones((8, 2))
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step 1; .* the model's output.*detect_anomaly=True"):
        trainer().fit(data, verbose=0)
    with pytest.raises(AnomalyError, match=r"\[log\]") as caught:
        trainer(detect_anomaly=True).fit(data, verbose=0)
    assert caught.value.layer == "squash (Squash)"
    assert off()
