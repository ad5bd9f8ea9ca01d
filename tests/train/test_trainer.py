"""Trainer: fit, evaluate, predict, history, progress, callbacks, errors."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import corten as ct
from corten import _core, nn, optim
from corten.data import DataLoader, TensorDataset
from corten.train import Accuracy, Callback, EarlyStopping, History, Metric, NonFiniteLossError, Trainer
from corten.train.progress import Progress


def blobs(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of points that a line can tell apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0, 3], [3, -2], [-3, -2]])
    return (centres[y] + rng.standard_normal((n, 2)) * 0.5).astype(np.float32), y


def trainer(metrics: Any = ("accuracy",), lr: float = 0.05) -> Trainer:
    ct.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
    return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), metrics)


def weights(t: Trainer) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in t.model.parameters()]


def test_fit_learns_and_keeps_history() -> None:
    t = trainer()
    history = t.fit(blobs(), epochs=8, validation=blobs(seed=1), batch_size=16, verbose=0)
    assert history is t.history
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history.epochs == 8
    assert all(len(history[name]) == 8 for name in history)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.95
    t.fit(blobs(), epochs=2, verbose=0)  # goes on
    assert history.epochs == 10
    assert math.isnan(history["val_loss"][-1])


@pytest.mark.parametrize("kind", ["pair", "tensors", "dataset", "loader", "list"])
def test_forms_of_data(kind: str) -> None:
    x, y = blobs()
    data: Any = {
        "pair": (x, y),
        "tensors": (ct.tensor(x), ct.tensor(y)),
        "dataset": TensorDataset(x, y),
        "loader": DataLoader(TensorDataset(x, y), 32, shuffle=True, num_workers=2),
        "list": [(x[:60], y[:60]), (x[60:], y[60:])],
    }[kind]
    t = trainer()
    t.fit(data, epochs=2, verbose=0)
    assert set(t.evaluate(data)) == {"loss", "accuracy"}
    assert t.predict(data).shape == (120, 3)


def test_evaluate_is_the_mean_over_samples() -> None:
    x, y = blobs(50)
    t = trainer()
    figures = t.evaluate((x, y), batch_size=16)  # 16, 16, 16, 2: batches of different weight
    t.model.eval()
    logits = t.model(ct.tensor(x))
    assert figures["loss"] == pytest.approx(nn.CrossEntropyLoss()(logits, ct.tensor(y)).item(), rel=1e-5)
    assert figures["accuracy"] == pytest.approx((logits.detach().numpy().argmax(1) == y).mean())


def test_predict() -> None:
    x, _ = blobs(50)
    t = trainer()
    out = t.predict(x, batch_size=16)
    assert not out.requires_grad
    t.model.eval()
    np.testing.assert_allclose(out.numpy(), t.model(ct.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_modes_come_back() -> None:
    t = trainer()
    frozen = t.model[2]  # type: ignore[index]
    frozen.eval()
    seen: list[bool] = []

    class Look(Callback):
        def on_batch_end(self, trainer: Trainer, step: int, loss: float) -> None:
            seen.append(trainer.model.training)

    t.fit(blobs(), validation=blobs(), callbacks=[Look()], verbose=0)
    assert all(seen)
    assert t.model.training
    assert not frozen.training
    t.model.eval()
    t.evaluate(blobs())
    t.predict(blobs()[0])
    t.fit(blobs(), verbose=0)
    assert not t.model.training
    assert ct.is_grad_enabled()


def test_float64_data_is_converted() -> None:
    x, y = blobs()
    t = trainer()
    t.fit((x.astype(np.float64), y), verbose=0)
    assert t.predict(x.astype(np.float64)).dtype == ct.float32
    ct.manual_seed(0)
    model = nn.Linear(2, 1).to("float64")
    r = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.01), ["mae"])
    r.fit((x, x[:, :1]), epochs=3, verbose=0)
    assert r.predict(x).dtype == ct.float64
    assert r.history["mae"][-1] < r.history["mae"][0]


def test_same_seed_same_weights() -> None:
    runs = []
    for _ in range(2):
        t = trainer()
        t.fit(blobs(), epochs=2, verbose=0)
        runs.append(weights(t))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_copies_no_parameter() -> None:
    # Parameters and the optimizer's state are written in place; only a snapshot that is kept makes a step copy them.
    for kind in ("sgd", "adam"):
        model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        parameters = model.parameters()
        optimizer = optim.Adam(parameters) if kind == "adam" else optim.SGD(parameters, lr=0.1, momentum=0.9)
        t = Trainer(model, nn.CrossEntropyLoss(), optimizer, ["accuracy"])
        t.fit(blobs(), epochs=1, verbose=0)
        before = _core.parameter_copies()
        t.fit(blobs(), epochs=2, validation=blobs(), verbose=0)
        assert _core.parameter_copies() == before
        kept = model.state_dict()
        t.fit(blobs(), epochs=1, verbose=0)
        assert _core.parameter_copies() > before
        assert len(kept) == 9


@pytest.mark.parametrize("limits", [{"clip_norm": 0.25}, {"clip_value": 0.02}, {"clip_norm": 0.04, "clip_value": 0.02}])
def test_gradients_are_clipped(limits: dict[str, float]) -> None:
    """With lr = 1 and plain SGD, a step is the gradient that was used."""
    x, y = blobs()
    model = nn.Linear(2, 3)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    nn.CrossEntropyLoss()(model(ct.tensor(x)), ct.tensor(y)).backward()
    raw = [p.grad.numpy().copy() for p in model.parameters() if p.grad is not None]
    t = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1.0), **limits)
    t.fit((x, y), batch_size=len(y), shuffle=False, verbose=0)
    want = [np.clip(g, -limits.get("clip_value", np.inf), limits.get("clip_value", np.inf)) for g in raw]
    norm = np.sqrt(sum((g**2).sum() for g in want))
    scale = min(1.0, limits.get("clip_norm", np.inf) / norm)
    assert norm > limits.get("clip_norm", 0)
    for p, old, g in zip(model.parameters(), before, want, strict=True):
        np.testing.assert_allclose(old - p.detach().numpy(), g * scale, rtol=1e-4, atol=1e-6)


def test_fit_works_inside_no_grad() -> None:
    t = trainer()
    before = weights(t)
    with ct.no_grad():
        t.fit(blobs(), verbose=0)
    assert any((a != b).any() for a, b in zip(before, weights(t), strict=True))


def test_nan_in_the_data_is_named() -> None:
    x, y = blobs()
    x[40, 0] = np.nan
    t = trainer()
    batches = DataLoader(TensorDataset(x, y), batch_size=16)
    with pytest.raises(NonFiniteLossError, match=r"loss is nan at epoch 1, step 3; first seen in the input") as error:
        t.fit(batches, verbose=0)
    assert (error.value.epoch, error.value.step) == (1, 3)
    assert math.isnan(error.value.value)
    assert all(np.isfinite(w).all() for w in weights(t))  # the bad step was not taken
    assert t.model.training


def test_spoilt_parameter_is_named() -> None:
    t = trainer()
    t.fit(blobs(), epochs=2, verbose=0)
    bias = t.model[3].bias  # type: ignore[index]
    bias.assign_(ct.full((3,), float("inf")))
    with pytest.raises(NonFiniteLossError, match=r"epoch 3, step 1; first seen in the parameter '3.bias'"):
        t.fit(blobs(), verbose=0)


def test_infinite_loss_is_named() -> None:
    t = trainer()
    t.loss = lambda y, target: nn.functional.cross_entropy(y, target) * float("inf")
    with pytest.raises(NonFiniteLossError, match="loss is inf at epoch 1, step 1; first seen in the loss itself"):
        t.fit(blobs(), verbose=0)


def test_keyboard_interrupt_keeps_what_was_learnt() -> None:
    class Interrupt(Callback):
        ended = 0

        def on_batch_end(self, trainer: Trainer, step: int, loss: float) -> None:
            if trainer.history.epochs == 2 and step == 2:
                raise KeyboardInterrupt

        def on_fit_end(self, trainer: Trainer) -> None:
            self.ended += 1

    t, callback = trainer(), Interrupt()
    with pytest.raises(KeyboardInterrupt):
        t.fit(blobs(), epochs=9, batch_size=16, callbacks=[callback], verbose=0)
    assert t.history.epochs == 2
    assert callback.ended == 1
    assert t.evaluate(blobs())["accuracy"] > 0.5
    assert t.fit(blobs(), epochs=1, verbose=0).epochs == 3


def test_callbacks_see_everything_in_order() -> None:
    seen: list[str] = []

    class Log(Callback):
        def on_fit_begin(self, trainer: Trainer) -> None:
            seen.append("begin")

        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            seen.append(f"epoch {epoch}")

        def on_batch_end(self, trainer: Trainer, step: int, loss: float) -> None:
            assert loss > 0
            seen.append(str(step))

        def on_epoch_end(self, trainer: Trainer, epoch: int, figures: Any) -> None:
            assert set(figures) == {"loss", "accuracy"}
            seen.append(f"end {epoch}")

        def on_fit_end(self, trainer: Trainer) -> None:
            seen.append("over")

    trainer().fit(blobs(), epochs=2, batch_size=60, callbacks=[Log()], verbose=0)
    assert seen == ["begin", "epoch 1", "1", "2", "end 1", "epoch 2", "1", "2", "end 2", "over"]


def test_stop_training() -> None:
    class Stop(Callback):
        def on_batch_end(self, trainer: Trainer, step: int, loss: float) -> None:
            trainer.stop_training = step == 2

    t = trainer()
    t.fit(blobs(), epochs=5, batch_size=16, callbacks=[Stop()], verbose=0)
    assert t.history.epochs == 1


def test_early_stopping_puts_the_best_back() -> None:
    class Wreck(Callback):
        """From the third epoch on the weights get worse and worse."""

        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            if epoch == 2:
                self.best = weights(trainer)
            if epoch >= 2:
                for p in trainer.model.parameters():
                    p.assign_(p.detach() * 10)

    t, wreck = trainer(lr=0.0), Wreck()
    stopping = EarlyStopping("loss", patience=2)
    t.model[2].p = 0.0  # type: ignore[index]
    t.fit(blobs(), epochs=20, callbacks=[wreck, stopping], verbose=0)
    assert stopping.best_epoch == 1
    assert t.history.epochs == 3
    for a, b in zip(weights(t), wreck.best, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(KeyError, match="val_loss"):
        t.fit(blobs(), callbacks=[EarlyStopping()], verbose=0)
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(patience=-1)
    assert EarlyStopping("val_accuracy").sign == 1


@pytest.mark.parametrize(
    ("output", "target", "share"),
    [
        ([[1, 2], [2, 1], [0, 5], [1, 0]], [1, 0, 0, 1], 0.5),
        ([[1, 2], [2, 1]], [[0.1, 0.9], [0.2, 0.8]], 0.5),
        ([1.5, -1, 2, -3], [1.0, 0, 0, 0], 0.75),
        ([[1.5], [-1]], [[1.0], [1]], 0.5),
        ([[[1, 0], [0, 1]]], [[0, 1]], 1.0),
    ],
)
def test_accuracy(output: Any, target: Any, share: float) -> None:
    metric = Accuracy()
    assert math.isnan(metric.compute())
    metric.update(ct.tensor(output, dtype="float32"), ct.tensor(target))
    assert metric.compute() == share
    with pytest.raises(ValueError, match="cannot compare"):
        metric.update(ct.zeros((2, 3)), ct.zeros((3,)))


def test_own_metric() -> None:
    class Largest(Metric):
        name = "largest"

        def reset(self) -> None:
            self.value = -math.inf

        def update(self, output: ct.Tensor, target: ct.Tensor) -> None:
            assert not output.requires_grad
            self.value = max(self.value, output.max().item())

        def compute(self) -> float:
            return self.value

    t = trainer(metrics=[Largest(), "accuracy"])
    t.fit(blobs(), verbose=0)
    assert list(t.history) == ["loss", "largest", "accuracy"]


def test_bad_limits_of_gradients() -> None:
    model = nn.Linear(2, 3)
    for name in ("clip_norm", "clip_value"):
        with pytest.raises(ValueError, match=rf"\[Trainer\] {name} must be at least 0, got -1"):
            Trainer(model, nn.MSELoss(), **{name: -1.0})
        with pytest.raises(TypeError, match=rf"\[Trainer\] {name} must be a number"):
            Trainer(model, nn.MSELoss(), **{name: "small"})


def test_bad_arguments() -> None:
    model = nn.Linear(2, 3)
    with pytest.raises(TypeError, match=r"nn\.Module"):
        Trainer(lambda x: x, nn.MSELoss())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        Trainer(model, "mse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown metric 'acc'"):
        Trainer(model, nn.MSELoss(), metrics=["acc"])
    with pytest.raises(ValueError, match="names of their own"):
        Trainer(model, nn.MSELoss(), metrics=["accuracy", "accuracy"])
    with pytest.raises(TypeError, match="got int"):
        Trainer(model, nn.MSELoss(), metrics=[3])
    with pytest.raises(ValueError, match="needs an optimizer"):
        Trainer(model, nn.MSELoss()).fit(blobs())
    with pytest.raises(TypeError, match=r"optimizer must be one of corten\.optim.*got str"):
        Trainer(model, nn.MSELoss(), "adam")  # type: ignore[arg-type]
    t = trainer()
    with pytest.raises(ValueError, match="epochs"):
        t.fit(blobs(), epochs=-1)
    with pytest.raises(TypeError, match=r"epochs must be an int, got 1\.5"):
        t.fit(blobs(), epochs=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"callback.*got int"):
        t.fit(blobs(), callbacks=[3], verbose=0)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="verbose"):
        t.fit(blobs(), verbose=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="DataLoader"):
        t.fit(ct.zeros((3, 2)))
    with pytest.raises(ValueError, match="pair"):
        t.fit([1, 2], verbose=0)
    with pytest.raises(ValueError, match="no data"):
        t.fit([], verbose=0)
    with pytest.raises(ValueError, match="no data"):
        t.evaluate([])
    with pytest.raises(ValueError, match="no data"):
        t.predict([])
    t.loss = nn.CrossEntropyLoss(reduction="none")
    with pytest.raises(ValueError, match="one element"):
        t.fit(blobs(), verbose=0)


def test_exhausted_generator_is_explained() -> None:
    x, y = blobs()

    def once() -> Iterator[Any]:
        yield x, y

    with pytest.raises(ValueError, match="more than once"):
        trainer().fit(once(), epochs=2, verbose=0)


def test_history() -> None:
    history = History()
    assert repr(history) == "History(0 epochs)"
    assert history.last() == {}
    history.append({"loss": 1})
    history.append({"loss": 0.5, "val_loss": 2})
    assert history.to_dict()["loss"] == [1.0, 0.5]
    assert math.isnan(history["val_loss"][0])
    assert history.last() == {"loss": 0.5, "val_loss": 2.0}
    assert repr(history) == "History(2 epochs: loss 0.5, val_loss 2)"
    with pytest.raises(KeyError, match="no figure 'x'; there are loss, val_loss"):
        history["x"]


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_drawn_in_place_and_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    bar = Progress(epochs=2, steps=1000, stream=stream)
    bar.begin(1)
    for step in range(1, 1001):
        bar.update(step, {"loss": 1.0 / step, "accuracy": 0.5})
    bar.end(1000, {"loss": 0.25, "accuracy": 0.75})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert 2 <= text.count("\r") < 50  # a thousand steps, drawn every tenth of a second
    first, last = text.split("\r")[1], text.split("\r")[-1]
    for part in ("epoch 1/2", "1/1000", "steps/s", "left", "loss 1.0000", "accuracy 50.00%"):
        assert part in first
    assert "━" * 24 in last
    assert "loss 0.2500  accuracy 75.00%" in last


def test_progress_elsewhere_is_one_line_per_epoch() -> None:
    stream = io.StringIO()
    bar = Progress(epochs=10, steps=3, stream=stream)
    for epoch in (1, 2):
        bar.begin(epoch)
        for step in (1, 2, 3):
            bar.update(step, {"loss": 1.0})
        bar.end(3, {"loss": 0.5})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch  2/10")
    assert lines[1].endswith("loss 0.5000")
    assert "\r" not in stream.getvalue()


def test_progress_lines_never_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    bar = Progress(1, 10, stream)
    bar.begin(1)
    bar.update(1, {f"figure{i}": 1.0 for i in range(10)})
    assert all(len(part) < 50 for part in stream.getvalue().split("\r"))
    bar.abort()
    assert stream.getvalue().endswith("\n")


def test_progress_without_blocks_or_length() -> None:
    class Ascii(Terminal):
        encoding = "ascii"  # type: ignore[assignment]

    stream = Ascii()
    bar = Progress(1, 4, stream)
    bar.begin(1)
    bar.update(2, {})
    stream.getvalue().encode("ascii")
    stream = Ascii()
    bar = Progress(1, None, stream)
    bar.begin(1)
    bar.update(2, {"loss": 1.0})
    assert "left" not in stream.getvalue()


def test_fit_prints(capsys: pytest.CaptureFixture[str]) -> None:
    trainer().fit(blobs(), epochs=2, validation=blobs())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2")
    assert "val_accuracy" in lines[1]
    trainer().fit(blobs(), epochs=2, verbose=0)
    assert capsys.readouterr().out == ""
    trainer().fit(blobs(), epochs=1, verbose=1)
    assert "\r" in capsys.readouterr().out
