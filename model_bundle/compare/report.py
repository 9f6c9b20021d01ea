"""Reports a comparison in lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from model_bundle.compare.classes import ClassAgreement
from model_bundle.compare.compare import Comparison

_WORST = 5
_FLIPS = 20
_SHOWN_CHARACTERS = 60


def report(comparison: Comparison, texts: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yields the lines of a report.

    Args:
        comparison: of these texts.
        texts: quoted where results differ.
        names: one per text.
    """
    measured, same = comparison.distances, comparison.distances.same
    if comparison.classes is not None:
        yield from _agreement(comparison.classes, texts, names)
    else:
        what = "words of each text" if comparison.rows == "word" else "one vector each"
        yield f"texts       {len(texts):,}, {what}, from the output {_reading(comparison)}"
        yield f"cosine      {_spread(measured.cosine, '.6f')}"
        spread = _spread(measured.difference, ".2e")
        yield f"difference  {spread}; the largest element is {comparison.scale:.3g}"
        if not comparison.is_same:
            yield f"NOT the same: {int((~same).sum()):,} of {len(texts):,}. The worst:"
            yield from _worst(comparison, texts, names)
    if comparison.is_same:
        yield f"the same    {len(texts):,} of {len(texts):,}"
    else:
        yield from _explained(comparison)


def _agreement(classes: ClassAgreement, texts: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yields what is known of labels and scores, and the texts where they differ."""
    known = classes.difference[~np.isnan(classes.difference)]
    what = f"labels {', '.join(classes.names[:10])}{', …' * (len(classes.names) > 10)}"
    yield f"texts       {len(texts):,}, {what if classes.has_labels else 'one quantity each'}"
    if classes.has_labels:
        yield f"labels      the same for {int(classes.is_same_label.sum()):,} of {len(texts):,}"
    if len(known):
        spread = f"median {np.median(known):.2e}, max {known.max():.2e}"
        yield f"difference  of a score: {spread}; at most {classes.max_difference:.2e} counts as the same"
    else:
        yield "difference  not known: the reference has labels only"
    if classes.same.all():
        return
    flips = np.flatnonzero(~classes.is_same_label)
    yield f"NOT the same: {int((~classes.same).sum()):,} of {len(texts):,}."
    if len(flips):
        yield f"Another label: {len(flips):,}."
        for index in flips[:_FLIPS].tolist():
            changed = f"was {classes.expected[index]}, is {classes.found[index]}"
            score = classes.difference[index]
            distance = "" if np.isnan(score) else f", score difference {score:.2e}"
            yield f"  {names[index]}: {changed}{distance}: {_quoted(texts[index])}"
        yield from [f"  and {len(flips) - _FLIPS:,} more"] * (len(flips) > _FLIPS)
    far = np.flatnonzero(classes.is_same_label & ~classes.same)
    if len(far):
        yield f"The same label, another score: {len(far):,}. The worst:"
        for index in far[np.argsort(-classes.difference[far], kind="stable")][:_WORST].tolist():
            kept = f"{classes.found[index]}, " if classes.has_labels else ""
            distance = f"score difference {classes.difference[index]:.2e}"
            yield f"  {names[index]}: {kept}{distance}: {_quoted(texts[index])}"


def _quoted(text: str) -> str:
    return repr(text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else ""))


def _reading(comparison: Comparison) -> str:
    reading = comparison.reading
    parts = [reading.output, *([f"pooled by {reading.pooling}"] if reading.pooling else [])]
    return ", ".join([*parts, "scaled to length 1" if reading.normalize else "not scaled"])


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
        numbers = f"cosine {measured.cosine[index]:.6f}, difference {measured.difference[index]:.2e}"
        yield f"  {names[index]}: {numbers}: {_quoted(texts[index])}"


def _explained(comparison: Comparison) -> Iterator[str]:
    if comparison.num_tried == 0:
        yield "Settings that explain it are only searched for where every score of every text is known."
    elif not comparison.explanations:
        yield (
            "No other layer, pooling, normalisation, casing, limit, prompt or boundaries matches either: the "
            "weights may differ, or the vectors were computed in a way that a bundle cannot express."
        )
    else:
        yield f"These match ({comparison.num_tried} texts tried), the most likely first:"
        for names in comparison.explanations[:_WORST]:
            yield f"  {' and '.join(names)}"
