"""Groups texts into batches of one length each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recipes.elmo_mini.words import Lexicon

# Steps per batch, boundaries included; each length has its own graph. Longer texts are truncated.
STEPS = (12, 18, 26, 36)
MAX_WORDS = STEPS[-1] - 2


@dataclass(frozen=True)
class Batch:
    """Texts of similar length.

    ``numbers`` is int32[2, steps, texts], the words, forwards and backwards; ``real``
    float32[steps, texts], 1 on words.
    """

    numbers: np.ndarray
    real: np.ndarray


def plan(lengths: np.ndarray, cells: int, random: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Returns the steps and texts of each batch in random order, bounded in cells.

    Args:
        lengths: int[texts], words.
        cells: steps times texts.
        random: decides the order.
    """
    batches = []
    order = random.permutation(len(lengths))
    steps = np.array(STEPS)[np.searchsorted(STEPS, np.minimum(lengths, MAX_WORDS) + 2)]
    for step in STEPS:
        texts = order[steps[order] == step]
        size = cells // step
        batches += [(step, texts[start : start + size]) for start in range(0, len(texts), size)]
    return [batches[index] for index in random.permutation(len(batches))]


def make_batch(texts: Sequence[np.ndarray], which: np.ndarray, steps: int, lexicon: Lexicon) -> Batch:
    """Adds sentence boundaries to texts, forwards and backwards.

    Args:
        texts: word numbers of all texts.
        which: int[texts] to take.
        steps: their length in the batch.
        lexicon: knows the words.
    """
    numbers = np.full((2, steps, len(which)), lexicon.end, np.int32)
    numbers[1] = lexicon.begin
    real = np.zeros((steps, len(which)), np.float32)
    for column, index in enumerate(which):
        words = texts[index][: steps - 2]
        numbers[0, : len(words) + 1, column] = [lexicon.begin, *words]
        numbers[1, : len(words) + 1, column] = [lexicon.end, *words[::-1]]
        real[1 : len(words) + 1, column] = 1.0
    return Batch(numbers, real)
