"""All training texts of bert-mini by kind, deterministic."""

from __future__ import annotations

import random
from pathlib import Path

from recipes.bert_mini.scenes import scenes
from recipes.bert_mini.sentences import exchanged, pairs, parts, read_sentences
from recipes.held_out import without_held_out

SEED = 1
NUM_SENTENCES = 22_528
NUM_PARTS = 20_480
NUM_EXCHANGED = 6_144
NUM_PAIRS = 2_048
NUM_SCENES = 20_480


def training_texts(path: Path) -> dict[str, list[str]]:
    """Generates the texts from the sentence file and from phrases.

    Raises:
        ValueError: it is another file.
    """
    sentences = read_sentences(path)
    random.Random(0).shuffle(sentences)
    return {
        "sentences": without_held_out(sentences[:NUM_SENTENCES]),
        "parts": without_held_out(parts(sentences[:NUM_PARTS], SEED)),
        "scenes": without_held_out(scenes(SEED, NUM_SCENES)),
        "exchanged": without_held_out(exchanged(sentences, SEED, NUM_EXCHANGED)),
        "pairs": without_held_out(pairs(sentences, SEED, NUM_PAIRS)),
    }
