"""Finds out whether a model gives a text the same vector alone and in company."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.bundle.manifest import OutputSpec
from model_bundle.errors import SourceError
from model_bundle.runtime.freeze.freeze import CannotFreezeError, freeze
from model_bundle.text.prepared import TextInput

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_Vectors = Callable[..., dict[str, np.ndarray]]

# The text that is watched, one of as many words, a longer one, and one shorter than any length models cut at.
_TEXTS = (
    "A cat sat on the mat.",
    "We ran home in the rain.",
    "It was not the best of times; it was a batch of many, many words, and one of them was longer.",
    "Go on.",
)
# Sums in another order differ by less; a padded row that gets into a mean differs by much more.
_SAME = 1e-5
DIFFERENT = 1e-4
# Sums in another order differ by less. The remapper's layer norm with its own epsilon differs by up to 1e-3.
_SAME_FROZEN = 5e-6


@dataclass(frozen=True)
class BatchBehaviour:
    """What ``BundleManifest`` says of batches, and the largest difference that a longer neighbour made."""

    batch_dependent: bool
    min_batch: int
    difference: float


def probe_batches(run: Run, text_side: TextInput, outputs: Mapping[str, OutputSpec]) -> BatchBehaviour:
    """Runs a text alone, twice, beside a text of its length, and beside a longer one.

    A model that fails on texts of several lengths is as dependent on its batch as one that gives other
    numbers there. Where the graph itself splits texts, nobody else knows which have one length; such a model,
    if it is dependent, is given one text at a time.

    Args:
        run: arrays by role in, arrays by output name out; may raise whatever TensorFlow raises.
        text_side: how texts become input.
        outputs: what the model gives.

    Raises:
        SourceError: it fails on two texts, too; it is random; or a text of the same length changes a vector,
            so that no choice of batches would make it a vector of its text.
    """
    prepared = text_side.prepare(_TEXTS)
    splits_itself = "text" in prepared.batch(np.array([0]))

    def vectors(*texts: int) -> dict[str, np.ndarray]:
        """The first text's share of each output."""
        found = run(prepared.batch(np.array(texts)))
        length = int(prepared.lengths[texts[0]])
        if "sequence_len" in found:
            length = int(found["sequence_len"][0])
        kept = {name: np.asarray(found[name]) for name, spec in outputs.items() if spec.kind != "length"}
        if any(array.shape[:1] != (len(texts),) for array in kept.values()):
            raise ValueError(f"{len(texts)} texts gave shapes {sorted({a.shape for a in kept.values()})}")
        return {n: a[0, :length] if outputs[n].kind == "token" else a[0] for n, a in kept.items()}

    alone, min_batch = _alone(vectors)
    _check_equal(largest_difference(alone, vectors(*[0] * min_batch)))
    pairs = [(alone, (0, 2)), (vectors(*[3] * min_batch), (3, 2))]
    if splits_itself:
        pairs.append((alone, (0, 1)))
    elif prepared.lengths[0] == prepared.lengths[1]:
        _check_equal(_beside(vectors, alone, (0, 1)))
    difference = max(_beside(vectors, expected, texts) for expected, texts in pairs)
    return BatchBehaviour(difference > _SAME, min_batch, difference)


def _failures() -> tuple[type[Exception], ...]:
    """Lists what TensorFlow raises when a graph fails, and what numpy does with what it gave."""
    import tensorflow as tf

    return tf.errors.OpError, ValueError, TypeError


def _alone(vectors: _Vectors) -> tuple[dict[str, np.ndarray], int]:
    """Runs one text; where that fails, the same text twice."""
    try:
        return vectors(0), 1
    except _failures():
        try:
            return vectors(0, 0), 2
        except _failures() as error:
            raise SourceError(f"The model fails on a plain text: {str(error).strip()[:500]}") from error


def _beside(vectors: _Vectors, expected: Mapping[str, np.ndarray], texts: tuple[int, int]) -> float:
    """Returns what the second text changes in the vectors of the first; infinite where the model fails."""
    try:
        return largest_difference(expected, vectors(*texts))
    except _failures():
        return float("inf")


def _check_equal(difference: float) -> None:
    if difference > DIFFERENT:
        raise SourceError(
            "The model gives a text other vectors beside another one of the same length (off by "
            f"{difference:.1g} of their size): it mixes the texts of a batch, or is random. Export it for "
            "inference: dropout and batch statistics off."
        )


def largest_difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Returns the largest difference, as a share of values above 1; infinite where shapes differ."""
    largest = 0.0
    for name, array in one.items():
        if array.shape != other[name].shape:
            return float("inf")
        scale = np.maximum(np.abs(array), 1.0)
        differences = np.nan_to_num(np.abs(array - other[name]) / scale, nan=np.inf)
        largest = max(largest, float(differences.max(initial=0.0)))
    return largest


def unfrozen_reason(concrete: Any, arrays: Mapping[str, np.ndarray]) -> str | None:
    """Runs a function on constants and on variables.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.
        arrays: a batch by the names of inputs.

    Returns:
        Why weights should stay variables; None where constants give the same.
    """
    import tensorflow as tf

    specs = concrete.structured_input_signature[1]
    tensors = {name: tf.constant(array, dtype=specs[name].dtype) for name, array in arrays.items()}
    expected = {name: value.numpy() for name, value in concrete(**tensors).items()}
    try:
        found = {name: value.numpy() for name, value in freeze(concrete).call(tensors).items()}
    except (CannotFreezeError, tf.errors.OpError, ValueError, TypeError) as error:
        return f"constants do not work here: {str(error).strip().splitlines()[0]}"
    difference = largest_difference(found, expected)
    if difference <= _SAME_FROZEN:
        return None
    return f"on constants TensorFlow computes it otherwise, off by {difference:.1g} of its size"
