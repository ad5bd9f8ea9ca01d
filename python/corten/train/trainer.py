"""Trainer: the loop around model, loss and optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np

from ..autograd import detect_anomaly
from ..checks import at_least, whole
from ..data import DataLoader, Dataset, TensorDataset
from ..functions import Tensor, asarray, concat, enable_grad, no_grad, to_array
from ..nn import Module
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from ..optim import Optimizer
from .callbacks import Callback
from .history import History
from .metrics import make_metrics
from .progress import Progress

__all__ = ["NonFiniteLossError", "Trainer"]


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite. The message names epoch and step, and where it seems to have been born.

    Attributes:
        epoch, step: where, both from 1.
        value: the loss.
    """

    def __init__(self, message: str, epoch: int, step: int, value: float) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.value = value


class _Weighted:
    """A mean of batch values, weighted with the sizes of the batches."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, value: float, count: int) -> None:
        self.total += value * count
        self.count += count

    def mean(self) -> float:
        return self.total / self.count if self.count else float("nan")


class Trainer:
    """Trains a model: `fit`, `evaluate`, `predict`.

    Wherever data is asked for, these will do: a `DataLoader` or another iterable over batches `(inputs, targets)` that
    can be gone through again; a `Dataset`; or a pair of tensors or arrays `(inputs, targets)`. Floating inputs are
    converted to the dtype of the model's parameters, and floating targets to that of its output.

    Args:
        model: takes inputs, returns outputs.
        loss: takes outputs and targets, returns a tensor of one element: the mean over the batch.
        optimizer: over the model's parameters. May be None for `evaluate` and `predict` only.
        metrics: names ("accuracy", "mae") or `Metric` objects.
        detect_anomaly: run `fit` in anomaly mode (see `corten.detect_anomaly`): slow, but it names the operation, the
            layer and the line in which a NaN is born.
        clip_norm: the norm that the gradients of all parameters together may have in a step, or None: longer ones are
            scaled (`corten.nn.utils.clip_grad_norm_`).
        clip_value: the absolute value that an element of a gradient may have, or None (`clip_grad_value_`, before
            `clip_norm`).

    Attributes:
        history: figures of each epoch, over all calls of `fit`.
        stop_training: set it to True (in a callback) to end the training.

    >>> import corten as ct
    >>> from corten import nn, optim
    >>> from corten.train import Trainer
    >>> ct.manual_seed(0)
    >>> x = ct.randn(256, 2)
    >>> y = (x[:, 0] * x[:, 1] > 0).astype("int64")
    >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.02), metrics=["accuracy"])
    >>> history = trainer.fit((x, y), epochs=30, verbose=0)
    >>> history["loss"][-1] < history["loss"][0], trainer.evaluate((x, y))["accuracy"] > 0.9
    (True, True)
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Optimizer | None = None,
        metrics: Iterable[Any] = (),
        *,
        detect_anomaly: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"[Trainer] model must be an nn.Module, got {type(model).__name__}")
        if not callable(loss):
            raise TypeError(f"[Trainer] loss must be callable, as nn.CrossEntropyLoss() is, got {type(loss).__name__}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"[Trainer] optimizer must be one of corten.optim, as optim.Adam(model.parameters()) is, got "
                f"{type(optimizer).__name__}"
            )
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = make_metrics(metrics)
        self.detect_anomaly = bool(detect_anomaly)
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None:
                at_least(f"[Trainer] {name}", limit)
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.history = History()
        self.stop_training = False

    def fit(
        self,
        train: Any,
        epochs: int = 1,
        *,
        validation: Any = None,
        batch_size: int = 64,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        verbose: Literal["auto", 0, 1, 2] | bool = "auto",
    ) -> History:
        """Train for some epochs; further calls go on from there.

        Args:
            train: the training data.
            epochs: passes through it.
            validation: data that is evaluated after each epoch; its figures are named `val_...`.
            batch_size, shuffle: used when `train` is a dataset or a pair, not when it brings its own batches.
            callbacks: see `Callback`.
            verbose: 0 prints nothing, 1 a progress bar, 2 a line per epoch; "auto" is 1 on a terminal, else 2.

        Returns:
            the history, which is also `self.history`.

        Raises:
            ValueError: there is no optimizer, no data, or an argument is out of range.
            NonFiniteLossError: the loss is NaN or infinite; the step that had it is not taken.
            AnomalyError: with `detect_anomaly`, a NaN was born in an operation or its gradient.

        Ctrl-C raises KeyboardInterrupt as ever; the model keeps what it has learnt, the history all full epochs. In
        any case model and metrics are left in the state in which another call finds them usable.
        """
        if self.optimizer is None:
            raise ValueError("[Trainer] fit needs an optimizer: Trainer(model, loss, optimizer)")
        epochs = whole("[Trainer] epochs", epochs)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"[Trainer] a callback is a corten.train.Callback, got {type(callback).__name__}")
        batches = _as_batches(train, batch_size, shuffle)
        progress = _progress(verbose, epochs, batches)
        self.stop_training = False
        modes = [(module, module.training) for module in self.model.modules()]
        first = self.history.epochs + 1
        try:
            for callback in callbacks:
                callback.on_fit_begin(self)
            for epoch in range(first, first + epochs):
                for callback in callbacks:
                    callback.on_epoch_begin(self, epoch)
                if progress is not None:
                    progress.begin(epoch - first + 1)
                self.model.train()
                figures, steps = self._epoch(self.optimizer, batches, epoch, progress, callbacks)
                if validation is not None:
                    checked = self.evaluate(validation, batch_size=max(batch_size, 256))
                    figures.update({f"val_{name}": value for name, value in checked.items()})
                self.history.append(figures)
                if progress is not None:
                    progress.end(steps, figures)
                for callback in callbacks:
                    callback.on_epoch_end(self, epoch, figures)
                if self.stop_training:
                    break
        except BaseException:
            if progress is not None:
                progress.abort()
            raise
        finally:
            for module, mode in modes:
                module.training = mode
            for callback in callbacks:
                callback.on_fit_end(self)
        return self.history

    def evaluate(self, data: Any, *, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics over the data, in evaluation mode and without gradients.

        Returns:
            figures by name: "loss" and one per metric.

        Raises:
            ValueError: there is no data.
        """
        for metric in self.metrics:
            metric.reset()
        loss = _Weighted()
        with no_grad(), _Evaluation(self.model):
            for x, y in _pairs(_as_batches(data, batch_size, shuffle=False)):
                output, target = self._forward(x, y)
                loss.add(_number(self.loss(output, target)), _rows(x))
                for metric in self.metrics:
                    metric.update(output, target)
        if not loss.count:
            raise ValueError("[Trainer] evaluate got no data")
        return self._figures(loss)

    def predict(self, data: Any, *, batch_size: int = 256) -> Tensor:
        """The model's outputs for all of the data, in order, in evaluation mode and without gradients.

        Args:
            data: inputs as a tensor or an array, or anything that `fit` takes (the targets are left aside).
            batch_size: used when the data does not bring its own batches.

        Returns:
            outputs (N, *).

        Raises:
            ValueError: there is no data.
        """
        if isinstance(data, Tensor | np.ndarray):
            data = TensorDataset(data)
        outputs = []
        with no_grad(), _Evaluation(self.model):
            for batch in _as_batches(data, batch_size, shuffle=False):
                x = batch[0] if isinstance(batch, tuple | list) else batch
                outputs.append(self.model(self._convert(x)))
        if not outputs:
            raise ValueError("[Trainer] predict got no data")
        return outputs[0] if len(outputs) == 1 else concat(outputs)

    # -- one epoch

    def _epoch(
        self,
        optimizer: Optimizer,
        batches: Iterable[Any],
        epoch: int,
        progress: Progress | None,
        callbacks: Sequence[Callback],
    ) -> tuple[dict[str, float], int]:
        for metric in self.metrics:
            metric.reset()
        loss = _Weighted()
        step = 0
        with enable_grad(), detect_anomaly() if self.detect_anomaly else nullcontext():
            for x, y in _pairs(batches):
                step += 1
                optimizer.zero_grad()
                output, target = self._forward(x, y)
                value = self.loss(output, target)
                number = _number(value)
                if not math.isfinite(number):
                    raise self._non_finite(number, epoch, step, x, output)
                value.backward()
                self._clip(optimizer)
                optimizer.step()
                loss.add(number, _rows(x))
                for metric in self.metrics:
                    metric.update(output.detach(), target)
                if progress is not None and progress.due():
                    progress.update(step, self._figures(loss))
                for callback in callbacks:
                    callback.on_batch_end(self, step, number)
                if self.stop_training:
                    break
        if not step:
            raise ValueError("[Trainer] fit got no data; can the batches be gone through more than once?")
        optimizer.zero_grad()  # gradients are of no use any more, but take as much memory as the model
        return self._figures(loss), step

    def _clip(self, optimizer: Optimizer) -> None:
        """Bound the gradients of the parameters that the optimizer is about to change."""
        if self.clip_norm is None and self.clip_value is None:
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if self.clip_value is not None:
            clip_grad_value_(params, self.clip_value)
        if self.clip_norm is not None:
            clip_grad_norm_(params, self.clip_norm)

    def _figures(self, loss: _Weighted) -> dict[str, float]:
        return {"loss": loss.mean(), **{metric.name: metric.compute() for metric in self.metrics}}

    def _convert(self, x: Any) -> Tensor:
        """Inputs as a tensor, floating ones in the dtype of the model's parameters."""
        inputs: Tensor = x if isinstance(x, Tensor) else asarray(x)
        if inputs.dtype.is_floating_point:
            for parameter in self.model.parameters():
                return inputs if inputs.dtype == parameter.dtype else inputs.astype(parameter.dtype)
        return inputs

    def _forward(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        output = self.model(self._convert(x))
        target = y if isinstance(y, Tensor) else asarray(y)
        if target.dtype.is_floating_point and target.dtype != output.dtype:
            target = target.astype(output.dtype)
        return output, target

    def _non_finite(self, number: float, epoch: int, step: int, x: Any, output: Tensor) -> NonFiniteLossError:
        """The error, with the first place where something is not finite: input, parameter, output or loss."""
        advice = "" if self.detect_anomaly else " (Trainer(..., detect_anomaly=True) names the operation and the layer)"
        where = "the loss itself: the outputs are finite" + advice
        if not _finite(self._convert(x)):
            where = "the input of this batch: look at the data"
        else:
            for name, parameter in self.model.named_parameters():
                if not _finite(parameter):
                    where = (
                        f"the parameter {name!r}, which an earlier step has spoilt: a smaller learning rate may help"
                        + advice
                    )
                    break
            else:
                if not _finite(output):
                    where = "the model's output: the parameters are finite" + advice
        return NonFiniteLossError(
            f"[Trainer] the loss is {number} at epoch {epoch}, step {step}; first seen in {where}", epoch, step, number
        )


class _Evaluation:
    """Puts a model into evaluation mode, and each of its modules back into its own mode afterwards."""

    def __init__(self, model: Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode


def _finite(x: Tensor) -> bool:
    return bool(np.isfinite(to_array(x)).all())


def _number(value: Tensor) -> float:
    if value.size != 1:
        raise ValueError(f"[Trainer] the loss must have one element, got shape {value.shape}: use reduction='mean'")
    return float(value.item())


def _rows(x: Any) -> int:
    return int(x.shape[0]) if x.ndim else 1


def _pairs(batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise ValueError(f"[Trainer] a batch must be a pair (inputs, targets), got a {type(batch).__name__}{size}")
        yield batch[0], batch[1]


def _as_batches(data: Any, batch_size: int, shuffle: bool) -> Iterable[Any]:
    """Data in any of the forms that Trainer takes, as an iterable over batches."""
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size, shuffle)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(d, Tensor | np.ndarray) for d in data):
        return DataLoader(TensorDataset(*data), batch_size, shuffle)
    if isinstance(data, Iterable) and not isinstance(data, Tensor | np.ndarray | str):
        return data
    raise TypeError(
        f"[Trainer] data must be a DataLoader, a Dataset or a pair (inputs, targets), got {type(data).__name__}"
    )


def _progress(verbose: Any, epochs: int, batches: Iterable[Any]) -> Progress | None:
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"[Trainer] verbose must be 'auto', 0, 1 or 2, got {verbose!r}")
    if verbose != "auto" and not verbose:
        return None
    try:
        steps: int | None = len(batches)  # type: ignore[arg-type]  # many iterables have no length, and need none
    except TypeError:
        steps = None
    return Progress(epochs, steps, interactive=None if verbose == "auto" else verbose == 1)
