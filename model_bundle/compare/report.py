"""A comparison in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from model_bundle.compare.compare import Comparison

_WORST = 5
_SHOWN_CHARACTERS = 60


def report(comparison: Comparison, texts: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yields the lines of a report.

    Args:
        comparison: of these texts.
        texts: they are quoted where they differ.
        names: what to call each.
    """
    measured, same = comparison.distances, comparison.distances.same
    what = "words of each text" if comparison.rows == "word" else "a vector each"
    yield f"texts       {len(texts)}, {what}, from the output {_reading(comparison)}"
    yield f"cosine      {_spread(measured.cosine, '.6f')}"
    yield f"difference  {_spread(measured.difference, '.2e')}; the largest element is {comparison.scale:.3g}"
    if comparison.is_same:
        yield f"the same    {len(texts)} of {len(texts)}"
        return
    yield f"NOT the same: {int((~same).sum())} of {len(texts)}. The worst:"
    yield from _worst(comparison, texts, names)
    yield from _explained(comparison)


def _reading(comparison: Comparison) -> str:
    reading = comparison.reading
    parts = [reading.output, *([f"pooled by {reading.pooling}"] if reading.pooling else [])]
    return ", ".join([*parts, "scaled to length 1" if reading.normalize else "as it is"])


def _spread(values: np.ndarray, form: str) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "none: the shapes differ"
    low, middle, high = (format(float(v), form) for v in (known.min(), np.median(known), known.max()))
    lacking = f", {len(values) - len(known)} of another shape" if len(known) < len(values) else ""
    return f"min {low}, median {middle}, max {high}{lacking}"


def _worst(comparison: Comparison, texts: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    measured = comparison.distances
    order = np.argsort(np.nan_to_num(measured.cosine, nan=-2.0), kind="stable")
    for index in [int(i) for i in order if not measured.same[i]][:_WORST]:
        text = texts[index]
        quoted = text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")
        numbers = f"cosine {measured.cosine[index]:.6f}, difference {measured.difference[index]:.2e}"
        yield f"  {names[index]}: {numbers}: {quoted!r}"


def _explained(comparison: Comparison) -> Iterator[str]:
    if not comparison.explanations:
        yield (
            "No other layer, pooling, normalisation, casing, limit, prompt or boundaries matches either: the "
            "weights may be others, or the vectors were made in a way that a bundle cannot express."
        )
        return
    yield f"These match ({comparison.num_tried} texts tried), the likeliest first:"
    for names in comparison.explanations[:_WORST]:
        yield f"  {' and '.join(names)}"
