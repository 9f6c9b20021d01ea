"""Checks by running a model whether vectors depend on the batch, and whether its weights may be constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.bundle.specs import OutputSpec
from model_bundle.errors import SourceError
from model_bundle.runtime.freeze.freeze import CannotFreezeError, freeze
from model_bundle.text.prepared import TextInput

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_Vectors = Callable[..., dict[str, np.ndarray]]

# The text under test, one with as many words, a longer one, and one shorter than any limit of a model.
_TEXTS = (
    "A cat sat on the mat.",
    "We ran home in the rain.",
    "It was not the best of times; it was a batch of many, many words, and one of them was longer.",
    "Go on.",
)
# Summing in a different order changes less than this; a padded row that enters a mean changes much more.
_SAME = 1e-5
DIFFERENT = 1e-4
# TensorFlow fuses some graphs of constants inexactly: layer norms with its own epsilon are off by up to 1e-3.
_SAME_FROZEN = 5e-6


@dataclass(frozen=True)
class BatchBehaviour:
    """The batching fields of ``BundleManifest``, and the largest difference caused by a longer neighbour."""

    batch_dependent: bool
    min_batch: int
    difference: float

    def notes(self, *, one_each: bool = False) -> list[str]:
        """Returns lines for the user; ``one_each``: texts run alone, not with equally long ones."""
        notes = []
        if self.batch_dependent:
            how = "texts are run one at a time" if one_each else "batches contain texts of equal length"
            why = (
                f"with a longer text in the batch, values change by up to {self.difference:.1g} of their size"
            )
            if np.isinf(self.difference):
                why = "the model fails if their lengths differ"
            notes.append(f"{how}: {why}")
        if self.min_batch > 1:
            notes.append("no text is run alone: the model fails on a batch of one")
        return notes


def probe_batches(run: Run, text_side: TextInput, outputs: Mapping[str, OutputSpec]) -> BatchBehaviour:
    """Runs a text alone, twice, with a text of the same length, and with a longer one.

    A model that fails on mixed lengths counts as batch-dependent, like one whose numbers change there. If the
    graph itself tokenizes, token counts are unknown outside, so a dependent model gets one text per batch.

    Args:
        run: maps arrays by role to arrays by output name; may raise any TensorFlow error.
        text_side: converts texts to model inputs.
        outputs: specifications of the model's outputs.

    Raises:
        SourceError: the model also fails on two texts, is random, or changes a vector when a text of the same
            length is in the batch, so that no batching makes a vector depend on its text alone.
    """
    prepared = text_side.prepare(_TEXTS)
    splits_itself = "text" in prepared.batch(np.array([0]))

    def vectors(*texts: int) -> dict[str, np.ndarray]:
        """Returns the rows of the first text in each output."""
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
        _check_equal(_change(vectors, alone, (0, 1)))
    difference = max(_change(vectors, expected, texts) for expected, texts in pairs)
    return BatchBehaviour(difference > _SAME, min_batch, difference)


def _failures() -> tuple[type[Exception], ...]:
    """Returns the errors of a failing graph, and those of numpy on unexpected output shapes."""
    import tensorflow as tf

    return tf.errors.OpError, ValueError, TypeError


def _alone(vectors: _Vectors) -> tuple[dict[str, np.ndarray], int]:
    """Runs a batch of one text; if that fails, the same text twice. Returns vectors and batch size."""
    try:
        return vectors(0), 1
    except _failures():
        try:
            return vectors(0, 0), 2
        except _failures() as error:
            raise SourceError(f"The model fails on a plain text: {str(error).strip()[:500]}") from error


def _change(vectors: _Vectors, expected: Mapping[str, np.ndarray], texts: tuple[int, int]) -> float:
    """Returns how much the second text changes the vectors of the first; infinity if the model fails."""
    try:
        return largest_difference(expected, vectors(*texts))
    except _failures():
        return float("inf")


def _check_equal(difference: float) -> None:
    if difference > DIFFERENT:
        raise SourceError(
            "The vectors of a text change with another text of the same length in the batch (by "
            f"{difference:.1g} of their size): the model mixes the texts of a batch, or is random. Export it "
            "for inference, with dropout and batch statistics off."
        )


def largest_difference(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """Returns the largest difference, relative to values above 1; infinity if shapes differ."""
    largest = 0.0
    for name, array in one.items():
        if array.shape != other[name].shape:
            return float("inf")
        scale = np.maximum(np.abs(array), 1.0)
        differences = np.nan_to_num(np.abs(array - other[name]) / scale, nan=np.inf)
        largest = max(largest, float(differences.max(initial=0.0)))
    return largest


def unfrozen_reason(concrete: Any, arrays: Mapping[str, np.ndarray]) -> str | None:
    """Compares a function's results with its weights as constants and as variables.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.
        arrays: a batch, by input name.

    Returns:
        Why the weights must stay variables; None if constants give the same result.
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
