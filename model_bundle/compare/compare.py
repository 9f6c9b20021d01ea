"""Compares reference vectors or scores with a bundle's, and searches for settings that match them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model_bundle.base.similarity import Distances, Tolerance, distances, largest_element
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling, Rows
from model_bundle.compare.classes import (
    DEFAULT_MAX_SCORE_DIFFERENCE,
    ClassAgreement,
    agreement,
    expected_classes,
    widths,
)
from model_bundle.compare.expected import Expected
from model_bundle.compare.reference_model import RawModel
from model_bundle.compare.search_settings import Search, pick_texts
from model_bundle.compare.settings import Reading, asked_reading, differences
from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.numeric_inputs import NumericInputs
from model_bundle.inference.scores import class_logits, class_names, scores_of
from model_bundle.runtime.request import EncodeRequest

# Scores have no direction, only differences count.
_ANY_COSINE = -2.0


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
    first. ``num_tried``: the number of texts they were tried on. ``classes``: if labels and scores were
    compared instead of vectors; ``distances`` then has the differences of scores.
    """

    distances: Distances
    reading: Reading
    rows: Rows
    num_tokens: tuple[int, ...]
    scale: float
    explanations: tuple[tuple[str, ...], ...] = ()
    num_tried: int = 0
    classes: ClassAgreement | None = None

    @property
    def is_same(self) -> bool:
        """Whether every text has its reference vector."""
        return bool(self.distances.same.all())


def compare(
    bundle: ModelBundle,
    texts: Sequence[str],
    expected: Expected | Sequence[np.ndarray],
    asked: RequestedSettings | None = None,
    tolerance: Tolerance | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    max_score_difference: float = DEFAULT_MAX_SCORE_DIFFERENCE,
) -> Comparison:
    """Encodes texts and compares; if results differ, searches for settings that explain them.

    A classifier's labels and scores are compared, unless settings of vectors are asked for or the reference
    has as many numbers as the layer below the head.

    Args:
        bundle: a checked bundle.
        texts: at least one.
        expected: the reference, in the order of the texts; or float[dim] or float[words, dim] per text.
        asked: the presumed settings of the reference vectors.
        tolerance: when vectors count as the same.
        columns: of the texts' table, for models with numeric inputs.
        max_score_difference: the largest difference of a score that counts as the same.

    Raises:
        SettingsError: there is nothing to compare, the bundle does not support the settings, or the reference
            has another number of labels or elements.
        ModelRunError: the model failed on a text.
    """
    asked, tolerance = asked or RequestedSettings(), tolerance or Tolerance()
    old = expected if isinstance(expected, Expected) else Expected(list(expected), None)
    numeric = NumericInputs(bundle.manifest.inputs)
    numbers = numeric.table({n: v for n, v in (columns or {}).items() if n in numeric.columns}, len(texts))
    by_column = dict(zip(numeric.columns, numbers.T, strict=True))
    rows = _rows_of(old)
    if _has_classes(bundle, asked, old):
        request = EncodeRequest.resolve_classes(bundle, max_tokens=asked.max_tokens)
        rows, scale, wanted = request.rows, 1.0, expected_classes(old, bundle.manifest)
        found, lengths = _compute(bundle, texts, request, by_column)
        classes = agreement(found, wanted, bundle.manifest, old.threshold, max_score_difference)
        measured = Distances(np.full(len(texts), np.nan), classes.difference, classes.same)
        references = wanted.searchable(rows)
        if old.vectors and references and _are_logits(old.vectors):
            references = old.vectors
        tolerance = Tolerance(_ANY_COSINE, max_score_difference)
    else:
        request = _request_vectors(bundle, asked, rows, old)
        classes, references = None, old.vectors or []
        scale = largest_element(references)
        found, lengths = _compute(bundle, texts, request, by_column)
        measured = distances(found, references, tolerance, scale)
    reading = asked_reading(request, bundle)
    result = Comparison(measured, reading, rows, tuple(lengths), scale, classes=classes)
    if result.is_same or not references:
        return result
    picked = pick_texts(lengths, measured.same)
    search = Search(
        bundle=bundle,
        model=RawModel(bundle, rows, request.max_tokens),
        rows=rows,
        texts=[texts[index] for index in picked],
        numbers=numbers[picked],
        expected=[references[index] for index in picked],
        tolerance=tolerance,
        scale=scale,
    )
    named = {tuple(differences(settings, reading, bundle)) for settings in search.run()}
    ranked = sorted((names for names in named if names), key=lambda names: (len(names), names))
    return replace(result, explanations=tuple(ranked), num_tried=len(picked))


def _rows_of(old: Expected) -> Rows:
    if not len(old):
        raise SettingsError("--texts and --expected are empty: there is nothing to compare.")
    vectors = old.vectors or []
    if len({(array.ndim, array.shape[-1]) for array in vectors}) > 1:
        raise SettingsError("--expected has vectors of different dimensions; they must come from one model.")
    return Rows.WORD if vectors and vectors[0].ndim == 2 else Rows.DOCUMENT


def _has_classes(bundle: ModelBundle, asked: RequestedSettings, old: Expected) -> bool:
    """Whether the reference is a classifier's labels or scores, and not the vectors of a layer.

    Raises:
        SettingsError: it is neither.
    """
    manifest = bundle.manifest
    if manifest.task == "pairs":
        raise SettingsError(
            f"The bundle {manifest.name} scores two texts together, and --texts has one per row. Compare its "
            "scores in Python: Classifier(BUNDLE).score(pairs)."
        )
    dim = old.vectors[0].shape[-1] if old.vectors else None
    vector_dims = {spec.dim for spec in manifest.outputs.values() if spec.kind in ("token", "text")}
    if manifest.task != "classify":
        if dim is None:
            raise SettingsError(
                f"--expected has labels, but the bundle {manifest.name} computes vectors. Compare labels "
                "with a bundle that was built with --task classify."
            )
        if vector_dims and None not in vector_dims and dim not in vector_dims:
            raise SettingsError(
                f"--expected has {dim} numbers per vector; the bundle {manifest.name} has "
                f"{' or '.join(str(size) for size in sorted(filter(None, vector_dims)))}."
            )
        return False
    if asked.layer is not None or asked.pooling is not None or asked.normalize is not None:
        return False
    scores = {len(class_names(manifest)), 1}
    if dim is None or dim in scores or old.labels is not None:
        return True
    if dim in vector_dims:
        return False
    below = f", or a vector of {' or '.join(str(size) for size in sorted(filter(None, vector_dims)))}"
    raise SettingsError(
        f"--expected has {dim} numbers per text; the classifier {manifest.name} has "
        f"{widths(manifest)}{below if vector_dims else ''}."
    )


def _are_logits(vectors: Sequence[np.ndarray]) -> bool:
    """Whether one number per row is no score of a sigmoid, which is between 0 and 1."""
    return vectors[0].shape[-1] == 1 and any(array.min() < 0 or array.max() > 1 for array in vectors)


def _request_vectors(
    bundle: ModelBundle, asked: RequestedSettings, rows: Rows, old: Expected
) -> EncodeRequest:
    if old.vectors is None:
        raise SettingsError("--layer, --pooling and --normalize are for vectors; --expected has labels only.")
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
