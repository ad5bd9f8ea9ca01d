"""Pictures of a training: curves, predictions, and both on one page.

matplotlib is imported when the first picture is drawn. Figures are made without pyplot, so nothing here opens a window
or touches the state of a notebook.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..functions import to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_history", "draw_predictions", "training_picture"]

# Weathering steel on paper: the trained part in grey-blue, the unseen part in rust.
_PAPER, _INK, _FAINT = "#fbf8f3", "#2b2622", "#8c837a"
_TRAIN, _TEST, _WRONG = "#3d6b86", "#b4501f", "#c01f2e"


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'corten[viz]' (or pip install matplotlib)") from None
    figure = Figure(figsize=(width, height), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    return figure


def draw_history(axes: Axes, history: Mapping[str, Sequence[float]], name: str, *, percent: bool = False) -> None:
    """Draw one figure of a history over the epochs: the training's and, if there is one, the validation's.

    Args:
        axes: matplotlib axes to draw into.
        history: figures by name, as `Trainer.history`.
        name: such as "loss" or "accuracy"; `val_` + name is the validation's.
        percent: the figure is a share.

    Raises:
        KeyError: there is no such figure.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    curves = [("training", _TRAIN, list(history[name]))]
    if f"val_{name}" in history:
        curves.append(("unseen", _TEST, list(history[f"val_{name}"])))
    low = min(min(values) for _, _, values in curves)
    high = max(max(values) for _, _, values in curves)
    span = (high - low) or 1.0
    ends = [values[-1] for _, _, values in curves]
    for i, (label, colour, values) in enumerate(curves):
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, linewidth=2.2, solid_capstyle="round", zorder=3)
        axes.plot(epochs[-1:], values[-1:], "o", color=colour, markersize=5.5, zorder=4)
        # The two labels at the ends of the lines keep a distance from each other.
        shift = 0.0
        if len(ends) == 2 and abs(ends[0] - ends[1]) < 0.13 * span:
            upper = ends[i] > ends[1 - i] or (ends[i] == ends[1 - i] and i == 0)
            shift = 9.0 if upper else -9.0
        text = f"{values[-1]:.1%}" if percent else f"{values[-1]:.3f}"
        axes.annotate(
            f"{label} {text}",
            (epochs[-1], values[-1]),
            xytext=(9, shift),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=10,
            annotation_clip=False,
        )
    axes.set_title(name, loc="left", fontsize=12.5, color=_INK, fontweight="bold", pad=10)
    axes.set_ylim(low - 0.12 * span, high + 0.06 * span)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_facecolor(_PAPER)
    axes.grid(axis="y", color=_FAINT, alpha=0.22, linewidth=0.8)
    axes.tick_params(colors=_FAINT, labelsize=9, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.spines["bottom"].set_alpha(0.5)


def _tile(axes: Axes, image: np.ndarray[Any, Any]) -> None:
    axes.imshow(image, cmap="Greys", vmin=0, vmax=1, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#ddd5ca")


def draw_predictions(
    figure: Figure | SubFigure,
    images: Any,
    labels: Any,
    probabilities: Any,
    *,
    class_names: Sequence[str] | None = None,
    right_rows: int = 3,
    wrong_rows: int = 2,
) -> None:
    """Draw images with what the model made of them: some right ones of each class, and the surest mistakes, marked.

    Args:
        figure: a matplotlib figure or subfigure to fill.
        images: (N, 1, H, W) or (N, H, W), from 0 to 1.
        labels: (N,) the truth.
        probabilities: (N, C) the model's.
        class_names: of the C classes; numbers by default.
        right_rows: rows of right ones, with a column per class (at most ten).
        wrong_rows: rows of mistakes.

    Raises:
        ValueError: the shapes do not fit.
    """
    x, y, p = to_array(images), to_array(labels), to_array(probabilities)
    x = x[:, 0] if x.ndim == 4 else x
    if x.ndim != 3 or p.ndim != 2 or not len(x) == len(y) == len(p):
        raise ValueError(
            f"[draw_predictions] shapes do not fit: images {x.shape}, labels {y.shape}, probabilities {p.shape}"
        )
    names = [str(i) for i in range(p.shape[1])] if class_names is None else list(class_names)
    guess, sure = p.argmax(1), p.max(1)
    wrong = np.flatnonzero(guess != y)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    columns = min(p.shape[1], 10)
    # One grid for both parts, with a thin row in front of each for its title.
    heights = [0.30, *[1.0] * right_rows, 0.62, *[1.24] * wrong_rows]
    grid = figure.add_gridspec(
        len(heights),
        columns,
        height_ratios=heights,
        hspace=0.08,
        wspace=0.10,
        left=0.0,
        right=0.975,
        top=0.97,
        bottom=0.025,
    )

    def title(row: int, text: str, note: str, colour: str) -> None:
        axes = figure.add_subplot(grid[row, :])
        axes.axis("off")
        place: dict[str, Any] = {"transform": axes.transAxes, "va": "bottom"}
        bold = axes.text(0, 0.12, text, fontsize=12.5, fontweight="bold", color=colour, **place)
        axes.annotate(f"  {note}", (1, 0), xycoords=bold, va="bottom", fontsize=10.5, color=_FAINT)

    title(0, f"{len(x) - len(wrong):,} read right", "the first of each", _INK)
    for column in range(columns):
        right = np.flatnonzero((guess == column) & (y == column))
        for row, index in enumerate(right[:right_rows]):
            axes = figure.add_subplot(grid[1 + row, column])
            _tile(axes, x[index])
            place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 9.5}
            axes.text(0.05, 0.95, names[column], color=_TRAIN, fontweight="bold", **place)
    shown = min(len(wrong), wrong_rows * columns)
    note = "those that the net was surest of" if shown < len(wrong) else ""
    title(1 + right_rows, f"{len(wrong):,} read wrong" if len(wrong) else "none read wrong", note, _WRONG)
    for i, index in enumerate(wrong[:shown]):
        axes = figure.add_subplot(grid[2 + right_rows + i // columns, i % columns])
        _tile(axes, x[index])
        for spine in axes.spines.values():
            spine.set_color(_WRONG)
            spine.set_linewidth(1.8)
        # The truth, what was read instead and, in the corner, how sure of it the net was.
        text = f"{names[y[index]]} read as {names[guess[index]]}"
        axes.set_xlabel(text, fontsize=8.5, color=_WRONG, labelpad=2.5)
        axes.text(
            0.95, 0.95, f"{sure[index]:.0%}", transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=_FAINT
        )


def _draw_filters(figure: Figure | SubFigure, filters: np.ndarray[Any, Any]) -> None:
    """The kernels (O, KH, KW) of a first layer in a row, dark for negative and light for positive weights."""
    grid = figure.add_gridspec(1, len(filters), left=0.09, right=0.74, top=0.66, bottom=0.025, wspace=0.16)
    largest = float(np.abs(filters).max()) or 1.0
    for i, kernel in enumerate(filters):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(kernel, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.text(0.09, 0.76, "what the first layer looks for", fontsize=12.5, fontweight="bold", color=_INK)


def training_picture(
    path: str | os.PathLike[str],
    history: Mapping[str, Sequence[float]],
    images: Any,
    labels: Any,
    probabilities: Any,
    *,
    title: str = "",
    subtitle: str = "",
    filters: Any = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Save one page: the curves of loss and accuracy, the first layer's kernels, and a grid of predictions.

    Args:
        path: of the picture; its ending says the format (png, svg, pdf; png without one). A folder that exists
            gets `picture.png`; others are made as needed.
        history: as `Trainer.history`, with "loss" and "accuracy".
        images, labels, probabilities: see `draw_predictions`.
        title, subtitle: two lines at the top.
        filters: weight (O, 1, KH, KW) of a first convolution; left out if None.
        class_names: of the classes; numbers by default.

    Returns:
        the path.

    Raises:
        ImportError: matplotlib is missing; the message tells how to get it.
    """
    figure = _figure(15.0, 8.2)
    halves: Any = figure.subfigures(2, 1, height_ratios=[0.125, 0.875], hspace=0.0)
    head, body = halves
    columns: Any = body.subfigures(1, 2, width_ratios=[0.36, 0.64], wspace=0.0)
    left, right = columns
    for part in (head, body, left, right):
        part.set_facecolor("none")
    head.text(0.0325, 0.40, title, fontsize=21, fontweight="bold", color=_INK, va="bottom")
    head.text(0.0325, 0.10, subtitle, fontsize=11.5, color=_FAINT, va="bottom")
    curves = left
    if filters is not None:
        curves, kernels = left.subfigures(2, 1, height_ratios=[0.79, 0.21])
        kernels.set_facecolor("none")
        _draw_filters(kernels, to_array(filters)[:, 0])
    curves.set_facecolor("none")
    grid = curves.add_gridspec(2, 1, left=0.09, right=0.74, top=0.935, bottom=0.085, hspace=0.42)
    draw_history(curves.add_subplot(grid[0]), history, "loss")
    below = curves.add_subplot(grid[1])
    draw_history(below, history, "accuracy", percent=True)
    below.set_xlabel("epoch", color=_FAINT, fontsize=9.5)
    draw_predictions(right, images, labels, probabilities, class_names=class_names)
    target = Path(path)
    if target.is_dir():
        target = target / "picture.png"
    elif not target.suffix:  # matplotlib would add it in silence, and we return where the picture lies
        target = target.with_suffix(".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130, facecolor=_PAPER)
    return target
