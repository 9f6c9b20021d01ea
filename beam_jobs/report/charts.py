"""Bars and the map of vectors as SVG, without a library or network access."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from beam_jobs.base.units import count
from beam_jobs.report.markup import safe
from beam_jobs.report.projection import Projection
from beam_jobs.report.row_sample import NUM_COLOURS, Sample

_WIDTH, _HEIGHT = 720, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 12, 40
_MAP_HEIGHT, _EDGE = 480, 14


@dataclass(frozen=True)
class Bar:
    """A bar with a ``label`` below it, if there is room, and a ``hint`` that is shown on hover."""

    label: str
    value: float
    hint: str


def bar_chart(bars: Sequence[Bar], *, title: str, below: str, label_every: int = 1) -> str:
    """Draws bars from zero over four grid lines.

    Args:
        bars: at least one, with non-negative values.
        title: text for screen readers.
        below: title of the horizontal axis.
        label_every: label every n-th bar.
    """
    top = nice_ceiling(max((bar.value for bar in bars), default=0.0))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = width / max(len(bars), 1)
    parts = [_grid(top, height)]
    for index, bar in enumerate(bars):
        size = height * bar.value / top
        x, y = _LEFT + index * step, _TOP + height - size
        gap = min(step * 0.12, 2)
        parts.append(
            f'<rect class="bar" x="{x + gap / 2:.1f}" y="{y:.1f}" width="{max(step - gap, 0.5):.1f}" '
            f'height="{max(size, 0):.1f}"><title>{safe(bar.hint)}</title></rect>'
        )
        if index % label_every == 0:
            parts.append(_text(x + step / 2, _HEIGHT - 24, bar.label, "middle"))
    parts.append(_text(_LEFT + width / 2, _HEIGHT - 6, below, "middle"))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{safe(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _grid(top: float, height: float) -> str:
    lines = []
    for quarter in range(5):
        y = _TOP + height - height * quarter / 4
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(_LEFT - 6, y + 4, short(top * quarter / 4), "end"))
    return "".join(lines)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{safe(text)}</text>'


def share_bar(parts: Sequence[tuple[str, float, str]], *, title: str) -> str:
    """Draws one stacked bar from parts, each a name, an amount and a CSS class."""
    total = sum(amount for _, amount, _ in parts) or 1.0
    drawn, x = [], 0.0
    for name, amount, kind in parts:
        width = _WIDTH * amount / total
        hint = f"{name}: {amount:,.0f} ({100 * amount / total:.1f} %)"
        drawn.append(
            f'<rect class="{kind}" x="{x:.1f}" y="0" width="{width:.1f}" height="22">'
            f"<title>{safe(hint)}</title></rect>"
        )
        x += width
    legend = "".join(
        f'<li><i class="{kind}"></i>{safe(name)} <b>{100 * amount / total:.1f} %</b> '
        f"<small>{short(amount)}</small></li>"
        for name, amount, kind in parts
    )
    return (
        f'<svg class="share" viewBox="0 0 {_WIDTH} 22" preserveAspectRatio="none" role="img" '
        f'aria-label="{safe(title)}">{"".join(drawn)}</svg><ul class="legend">{legend}</ul>'
    )


def nice_ceiling(value: float) -> float:
    """Returns the next number up whose quarters are round numbers.

    >>> nice_ceiling(7300), nice_ceiling(0.9), nice_ceiling(0)
    (8000.0, 1.0, 1.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value)


def short(value: float) -> str:
    """Writes a number with three significant digits and a suffix k, M or G.

    >>> short(1_234), short(12_345_678), short(950), short(2.5)
    ('1.23k', '12.3M', '950', '2.5')
    """
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def scatter(sample: Sample, projection: Projection) -> str:
    """Draws the sample as points on its two axes, both to the same scale, with texts on hover."""
    places = _fit(projection.points)
    kinds = _kinds(sample)
    texts = sample.texts or [""] * len(sample.names)
    groups = sample.groups or [""] * len(sample.names)
    points = []
    for (x, y), name, text, group in zip(places, sample.names, texts, groups, strict=True):
        hint = "\n".join(filter(None, (f"{name} · {group}" if group else name, text)))
        points.append(
            f'<circle class="point g{kinds[group]}" cx="{x:.1f}" cy="{y:.1f}" r="3.4">'
            f"<title>{safe(hint)}</title></circle>"
        )
    across, up = projection.shares
    number = count(len(points), "row")
    label = f"Map of {number} on two principal components, which hold {across + up:.0%} of the variance"
    return (
        f'<svg class="map" viewBox="0 0 {_WIDTH} {_MAP_HEIGHT}" role="img" aria-label="{safe(label)}">'
        f"{''.join(points)}</svg>{_map_legend(sample, kinds)}"
    )


def _fit(points: np.ndarray) -> np.ndarray:
    """Scales points into the picture; outliers are clipped to its edge."""
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    middle, span = (low + high) / 2, np.maximum(high - low, 1e-12)
    room = np.array([_WIDTH, _MAP_HEIGHT]) - 2 * _EDGE
    scaled = (points - middle) * float((room / span).min()) * np.array([1, -1])
    size = np.array([_WIDTH, _MAP_HEIGHT])
    return np.asarray(np.clip(scaled + size / 2, _EDGE / 2, size - _EDGE / 2))


def _kinds(sample: Sample) -> dict[str, int]:
    """Returns the colour index of each group, the largest group first."""
    if not sample.groups:
        return {"": 0}
    colours = colours_of(set(sample.groups))
    return {group: colours[group] for group, _ in Counter(sample.groups).most_common()}


def colours_of(groups: Collection[str]) -> dict[str, int]:
    """Chooses a colour for each group by its name alone, so that it is the same in the report of every night.

    Each of at most eight groups has the colour of its digest, or the next free one if a group before it in
    the alphabet has that.

    >>> colours_of({"sport", "world"}) == colours_of(["world", "sport"])
    True
    """
    taken: dict[int, str] = {}
    for group in sorted(groups):
        first = hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[0]
        wanted = ((first + step) % NUM_COLOURS for step in range(NUM_COLOURS))
        taken[next(colour for colour in wanted if colour not in taken)] = group
    return {group: colour for colour, group in taken.items()}


def _map_legend(sample: Sample, kinds: dict[str, int]) -> str:
    if not sample.groups:
        return ""
    counts = Counter(sample.groups)
    items = "".join(
        f'<li><i class="g{kind}"></i><bdi>{safe(group)}</bdi> <small>{counts[group]:,}</small></li>'
        for group, kind in kinds.items()
    )
    name = safe(sample.group_column)
    return f'<ul class="legend" aria-label="{name}"><li>{name}:</li>{items}</ul>'
