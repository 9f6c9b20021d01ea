"""Compares reference vectors with a bundle's, searches for matching settings, and reports both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.base.similarity import Distances, Tolerance, distances, largest_element
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import Pooling, Rows
from model_bundle.compare.reference_model import RawModel
from model_bundle.compare.search_settings import Search, pick_texts
from model_bundle.compare.settings import Reading, asked_reading, differences
from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.numeric_inputs import NumericInputs
from model_bundle.inference.scores import class_logits, class_names, scores_of
from model_bundle.runtime.request import EncodeRequest

_WORST = 5
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class RequestedSettings:
    """The settings that the reference vectors are expected to have; None means the bundle's."""

    layer: str | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    ``reading``: how the bundle's vectors were computed. ``num_tokens``: per text, before truncation.
    ``scale``: the largest element of the reference vectors.
    ``explanations``: settings that reproduce the reference vectors, each as a list of differences, fewest
    first. ``num_tried``: the number of texts they were tried on.
    """

    distances: Distances
    reading: Reading
    rows: Rows
    num_tokens: tuple[int, ...]
    scale: float
    explanations: tuple[tuple[str, ...], ...] = ()
    num_tried: int = 0

    @property
    def is_same(self) -> bool:
        """Whether every text has its reference vector."""
        return bool(self.distances.same.all())


def compare(
    bundle: ModelBundle,
    texts: Sequence[str],
    expected: Sequence[np.ndarray],
    asked: RequestedSettings | None = None,
    tolerance: Tolerance | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Comparison:
    """Encodes texts and compares; if vectors differ, searches for settings that explain them.

    Args:
        bundle: a checked bundle.
        texts: at least one.
        expected: float[dim] or float[words, dim] per text.
        asked: the presumed settings of the reference vectors.
        tolerance: when vectors count as the same.
        columns: of the texts' table, for models with numeric inputs.

    Raises:
        SettingsError: there is nothing to compare, or the bundle does not support the settings.
        ModelRunError: the model failed on a text.
    """
    asked, tolerance = asked or RequestedSettings(), tolerance or Tolerance()
    numeric = NumericInputs(bundle.manifest.inputs)
    numbers = numeric.table({n: v for n, v in (columns or {}).items() if n in numeric.columns}, len(texts))
    rows = _rows_of(expected)
    request = _request(bundle, asked, rows, expected[0].shape[-1])
    reading, scale = asked_reading(request, bundle), largest_element(expected)
    found, lengths = _compute(bundle, texts, request, dict(zip(numeric.columns, numbers.T, strict=True)))
    measured = distances(found, expected, tolerance, scale)
    if measured.same.all():
        return Comparison(measured, reading, rows, tuple(lengths), scale)
    picked = pick_texts(lengths, measured.same)
    search = Search(
        bundle=bundle,
        model=RawModel(bundle, rows, request.max_tokens),
        rows=rows,
        texts=[texts[index] for index in picked],
        numbers=numbers[picked],
        expected=[expected[index] for index in picked],
        tolerance=tolerance,
        scale=scale,
    )
    named = {tuple(differences(settings, reading, bundle)) for settings in search.run()}
    ranked = sorted((names for names in named if names), key=lambda names: (len(names), names))
    return Comparison(measured, reading, rows, tuple(lengths), scale, tuple(ranked), len(picked))


def _rows_of(expected: Sequence[np.ndarray]) -> Rows:
    if not expected:
        raise SettingsError("--texts and --expected are empty: there is nothing to compare.")
    if len({(array.ndim, array.shape[-1]) for array in expected}) > 1:
        raise SettingsError("--expected has vectors of different dimensions; they must come from one model.")
    return Rows.DOCUMENT if expected[0].ndim == 1 else Rows.WORD


def _request(bundle: ModelBundle, asked: RequestedSettings, rows: Rows, dim: int) -> EncodeRequest:
    """Requests vectors, or a classifier's scores if the reference has as many numbers as there are labels."""
    manifest = bundle.manifest
    no_vectors = asked.layer is None and asked.pooling is None and asked.normalize is None
    if manifest.task == "classify" and no_vectors and dim == len(class_names(manifest)):
        return EncodeRequest.resolve_classes(bundle, max_tokens=asked.max_tokens)
    return EncodeRequest.resolve(
        bundle,
        layers=() if asked.layer is None else (asked.layer,),
        pooling=asked.pooling,
        normalize=asked.normalize,
        max_tokens=asked.max_tokens,
        rows=rows,
    )


def _compute(
    bundle: ModelBundle, texts: Sequence[str], request: EncodeRequest, numeric: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray], list[int]]:
    """Encodes texts as jobs do: one array per text, and their lengths in tokens before truncation."""
    manifest, (output,) = bundle.manifest, request.outputs
    found: list[np.ndarray] = []
    lengths: list[int] = []
    for part in Encoder.of_request(bundle, request).encode_buffers(texts, numeric):
        vectors = part.vectors[output]
        if bundle.spec(output).kind == "class":
            logits = class_logits(vectors, len(class_names(manifest)), manifest.scores)
            vectors = scores_of(logits, manifest.scores)
        if request.rows is Rows.WORD:
            found += np.split(vectors, np.cumsum(part.num_words)[:-1])
        else:
            found += list(vectors)
        lengths += part.num_tokens_untruncated.tolist()
    return found, lengths


def report(comparison: Comparison, texts: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yields the lines of a report.

    Args:
        comparison: of these texts.
        texts: quoted where vectors differ.
        names: one per text.
    """
    measured, same = comparison.distances, comparison.distances.same
    what = "words of each text" if comparison.rows == "word" else "one vector each"
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
        text = texts[index]
        quoted = text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")
        numbers = f"cosine {measured.cosine[index]:.6f}, difference {measured.difference[index]:.2e}"
        yield f"  {names[index]}: {numbers}: {quoted!r}"


def _explained(comparison: Comparison) -> Iterator[str]:
    if not comparison.explanations:
        yield (
            "No other layer, pooling, normalisation, casing, limit, prompt or boundaries matches either: the "
            "weights may differ, or the vectors were computed in a way that a bundle cannot express."
        )
        return
    yield f"These match ({comparison.num_tried} texts tried), the most likely first:"
    for names in comparison.explanations[:_WORST]:
        yield f"  {' and '.join(names)}"
