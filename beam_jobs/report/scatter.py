"""The map: a point for each row of the sample, with its text on hover."""

from __future__ import annotations

from collections import Counter

import numpy as np

from beam_jobs.report.markup import safe
from beam_jobs.report.projection import Projection
from beam_jobs.report.row_sample import Sample

_WIDTH, _HEIGHT, _EDGE = 720, 480, 14


def scatter(sample: Sample, projection: Projection) -> str:
    """Draws the sample on its two axes, in one scale, so that distances can be compared."""
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
    label = (
        f"Map of {len(points)} rows on two principal components, which hold {across + up:.0%} of the variance"
    )
    return (
        f'<svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{safe(label)}">'
        f"{''.join(points)}</svg>{_legend(sample, kinds)}"
    )


def _fit(points: np.ndarray) -> np.ndarray:
    """Scales points into the picture; a few far ones do not squeeze the others."""
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    middle, span = (low + high) / 2, np.maximum(high - low, 1e-12)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _EDGE
    scaled = (points - middle) * float((room / span).min()) * np.array([1, -1])
    size = np.array([_WIDTH, _HEIGHT])
    return np.asarray(np.clip(scaled + size / 2, _EDGE / 2, size - _EDGE / 2))


def _kinds(sample: Sample) -> dict[str, int]:
    """Returns each group a colour, the largest first."""
    if not sample.groups:
        return {"": 0}
    return {group: index for index, (group, _) in enumerate(Counter(sample.groups).most_common())}


def _legend(sample: Sample, kinds: dict[str, int]) -> str:
    if not sample.groups:
        return ""
    counts = Counter(sample.groups)
    items = "".join(
        f'<li><i class="g{kind}"></i><bdi>{safe(group)}</bdi> <small>{counts[group]:,}</small></li>'
        for group, kind in kinds.items()
    )
    name = safe(sample.group_column)
    return f'<ul class="legend" aria-label="{name}"><li>{name}:</li>{items}</ul>'
