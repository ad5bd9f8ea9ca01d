"""History: what was measured in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["History"]


class History(Mapping[str, list[float]]):
    """Figures by name, one per epoch: `history["loss"]`, `history["val_accuracy"]`, ...

    An epoch without a figure of that name (validation that was off, say) has NaN there.

    >>> from corten.train import History
    >>> history = History()
    >>> history.append({"loss": 0.5})
    >>> history.append({"loss": 0.25, "val_loss": 0.3})
    >>> history["loss"], len(history["val_loss"]), history.epochs
    ([0.5, 0.25], 2, 2)
    """

    def __init__(self) -> None:
        self._figures: dict[str, list[float]] = {}
        self.epochs = 0

    def append(self, figures: Mapping[str, float]) -> None:
        """Add the figures of one more epoch."""
        for name in figures:
            self._figures.setdefault(name, [float("nan")] * self.epochs)
        self.epochs += 1
        for name, values in self._figures.items():
            values.append(float(figures.get(name, float("nan"))))

    def last(self) -> dict[str, float]:
        """The figures of the last epoch; empty before the first."""
        return {name: values[-1] for name, values in self._figures.items()}

    def to_dict(self) -> dict[str, list[float]]:
        """A copy as a plain dictionary, for `json.dump` for instance."""
        return {name: list(values) for name, values in self._figures.items()}

    def __getitem__(self, name: str) -> list[float]:
        try:
            return self._figures[name]
        except KeyError:
            raise KeyError(f"no figure {name!r}; there are {', '.join(self._figures) or 'none yet'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.last().items())
        return f"History({self.epochs} epochs{': ' + last if last else ''})"
