"""Pictures of attention: which query looks at which key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..functions import to_array
from .plots import _FAINT, _INK, _PAPER, _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attention_map", "draw_attention"]


def _weights(name: str, weights: Any, ndims: tuple[int, ...]) -> np.ndarray[Any, Any]:
    array = np.asarray(to_array(weights), dtype=np.float64)
    if array.ndim not in ndims:
        axes = " or ".join({2: "(L, S)", 3: "(heads, L, S)"}[n] for n in ndims)
        raise ValueError(f"[{name}] weights must be {axes}, got {array.shape}")
    return array


def draw_attention(
    axes: Axes,
    weights: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    title: str = "",
    annotate: bool = False,
) -> None:
    """Draw weights as a map: a row per query, a column per key, the darker the larger.

    Args:
        axes: matplotlib axes to draw into.
        weights: (L, S), a tensor or an array, from 0 to 1.
        queries: L names for the rows.
        keys: S names for the columns.
        title: written above.
        annotate: write each weight of at least 0.1 into its place.

    Raises:
        ValueError: the weights are no matrix, or the names are not as many.
    """
    from matplotlib.colors import LinearSegmentedColormap

    array = _weights("draw_attention", weights, (2,))
    for what, names, count in (("queries", queries, array.shape[0]), ("keys", keys, array.shape[1])):
        if names is not None and len(names) != count:
            raise ValueError(f"[draw_attention] {what} must be {count} names, one per weight, got {len(names)}")
    rust = LinearSegmentedColormap.from_list("rust", [_PAPER, "#d98e5f", "#7a2f12"])
    axes.imshow(array, cmap=rust, vmin=0.0, vmax=max(float(array.max(initial=0.0)), 1e-9), aspect="auto")
    axes.set_xticks(range(array.shape[1]) if keys is not None else [])
    axes.set_yticks(range(array.shape[0]) if queries is not None else [])
    if keys is not None:
        axes.set_xticklabels([_shown(k) for k in keys], fontsize=9, color=_INK)
    if queries is not None:
        axes.set_yticklabels([_shown(q) for q in queries], fontsize=9, color=_INK)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
        spine.set_alpha(0.4)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=_INK, fontweight="bold", pad=10)
    if annotate:
        half = 0.55 * array.max(initial=0.0)
        for (i, j), w in np.ndenumerate(array):
            if w >= 0.1:
                colour = _PAPER if w > half else _INK
                axes.text(j, i, f"{w:.1f}".lstrip("0"), ha="center", va="center", fontsize=7, color=colour)


def _shown(text: str) -> str:
    """Spaces and line ends as something that can be seen."""
    return text.replace(" ", "\u2423").replace("\n", "\u21b5") or "\u00d8"


def attention_map(
    path: str | os.PathLike[str],
    weights: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    titles: Sequence[str] | None = None,
    annotate: bool = False,
) -> Path:
    """Save a picture of attention weights: an alignment, or a map for each head.

    Args:
        path: where to; the ending says which format, such as .png or .svg.
        weights: (L, S), or (heads, L, S).
        queries: L names for the rows, such as the tokens that were made.
        keys: S names for the columns, such as those that were read.
        titles: one per map; "head 1", ... by default for several.
        annotate: write weights of at least 0.1 into their places.

    Returns:
        the path.

    Raises:
        ValueError: the weights have other axes, or names or titles are not as many.
        ImportError: matplotlib is not there.
    """
    array = _weights("attention_map", weights, (2, 3))
    maps = array[None] if array.ndim == 2 else array
    if titles is None:
        titles = [""] if len(maps) == 1 else [f"head {i + 1}" for i in range(len(maps))]
    if len(titles) != len(maps):
        raise ValueError(f"[attention_map] there must be a title per map, {len(maps)}, got {len(titles)}")
    columns = min(len(maps), 4)
    rows = -(-len(maps) // max(columns, 1))
    length, count = maps.shape[1:]
    width, height = max(2.6, 0.32 * count + 0.9), max(2.2, 0.3 * length + 0.9)
    figure = _figure(width * max(columns, 1), height * max(rows, 1))
    grid = figure.subplots(max(rows, 1), max(columns, 1), squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(maps):
            axes.set_axis_off()
            continue
        draw_attention(axes, maps[place], queries, keys, title=titles[place], annotate=annotate)
    figure.tight_layout()
    target = Path(path)
    figure.savefig(target, dpi=150)
    return target
