"""Plots the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.spread import Spread

_OURS, _PEERS = "#1b6ca8", "#9aa5ad"


def check_can_plot() -> None:
    """Checks before anything is measured that the plot can be drawn afterwards.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise BenchmarkError(
            "matplotlib is not installed, and the tables come with a plot: pip install matplotlib. Nothing "
            "was measured."
        )


def plot_speeds(panels: Mapping[str, Sequence[tuple[str, Spread, bool]]], path: Path) -> None:
    """Draws one panel of bars per group: medians, with whiskers from minimum to maximum.

    Args:
        panels: title to (label, documents/s, whether it is ours).
        path: a ``.png``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [len(bars) + 1.5 for bars in panels.values()]
    figure = Figure(figsize=(10, 1 + 0.45 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        _draw(axis, title, bars)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _draw(axis: Any, title: str, bars: Sequence[tuple[str, Spread, bool]]) -> None:
    bars = sorted(bars, key=lambda bar: bar[1].median)
    medians = [value.median for _, value, _ in bars]
    whiskers = [
        [value.median - value.lowest for _, value, _ in bars],
        [value.highest - value.median for _, value, _ in bars],
    ]
    colours = [_OURS if ours else _PEERS for _, _, ours in bars]
    axis.barh([label for label, _, _ in bars], medians, xerr=whiskers, color=colours, capsize=3)
    for row, (_, value, _) in enumerate(bars):
        axis.text(value.highest, row, f"  {value.median:,.0f}", va="center")
    axis.set_title(title, loc="left")
    axis.set_xlim(0, max(value.highest for _, value, _ in bars) * 1.12)
    axis.spines[["top", "right"]].set_visible(False)
