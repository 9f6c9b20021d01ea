"""Training data: tokens, the teacher's vectors, and groups of related texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from recipes.bert_mini.sentences import parts
from recipes.bert_mini.start import first_weights, principal_axes, token_weights, word_table
from recipes.bert_mini.teacher import Teacher
from recipes.bert_mini.texts import NUM_PARTS, SEED

# Token limit: longer texts add little to training.
MAX_TRAIN_TOKENS = 64
# Scenes come in families of up to four.
SCENES_TOGETHER = 8
# [PAD], [UNK], [CLS], [SEP] and [MASK] of BERT's vocabulary have no meaning of their own.
SILENT = (0, 100, 101, 102, 103)


@dataclass(frozen=True)
class Lessons:
    """Tokenized texts with the teacher's vectors.

    ``vectors`` is float16[texts, teacher's dim]. ``groups`` are places of texts that come in one batch.
    """

    tokens: list[list[int]]
    vectors: np.ndarray
    groups: list[list[int]]


@dataclass(frozen=True)
class Start:
    """Initial state of training: the projection, float32[teacher's dim, dim], and all weights."""

    axes: np.ndarray
    weights: dict[str, np.ndarray]


def make_lessons(texts: Mapping[str, list[str]], teacher: Teacher) -> Lessons:
    """Builds the lessons from the teacher's vectors, cached ones where they exist."""
    vectors = [teacher.vectors(some, kind) for kind, some in texts.items()]
    flat = [text for some in texts.values() for text in some]
    return Lessons(tokenized(flat, teacher.tokenizer_file), np.concatenate(vectors), _groups(texts))


def tokenized(texts: Sequence[str], tokenizer_file: Path) -> list[list[int]]:
    """Returns the token ids of each text, up to ``MAX_TRAIN_TOKENS``."""
    tokenizer = _tokenizer(tokenizer_file)
    tokenizer.enable_truncation(MAX_TRAIN_TOKENS)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def make_start(texts: Mapping[str, list[str]], lessons: Lessons, teacher: Teacher, dim: int) -> Start:
    """Builds the initial embedding table from the teacher's vectors of single tokens, weighted by rarity."""
    tokenizer = _tokenizer(teacher.tokenizer_file)
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    words = teacher.vectors([token.removeprefix("##") for token, _ in by_id], "vocabulary")
    counts = np.ones(len(by_id))
    for tokens in lessons.tokens[: len(texts["sentences"])]:
        np.add.at(counts, tokens[1:-1], 1)
    axes = principal_axes(lessons.vectors, dim)
    return Start(axes, first_weights(word_table(words, axes, token_weights(counts), SILENT), SEED))


def _groups(texts: Mapping[str, list[str]]) -> list[list[int]]:
    """Groups sentences with their parts and scenes with their families; other texts are alone."""
    starts = dict(zip(texts, np.cumsum([0, *map(len, texts.values())]).tolist(), strict=False))
    cut = list(parts(texts["sentences"][:NUM_PARTS], SEED))
    place_of = {part: starts["parts"] + place for place, part in enumerate(texts["parts"])}
    groups = [[place] for place in range(len(texts["sentences"]))]
    for place, part in enumerate(cut):
        if part in place_of:
            groups[place].append(place_of.pop(part))
    groups += [[place] for place in place_of.values()]
    groups += _runs(starts["scenes"], len(texts["scenes"]), SCENES_TOGETHER)
    for kind in ("exchanged", "pairs"):
        groups += _runs(starts[kind], len(texts[kind]), 1)
    return groups


def _runs(start: int, count: int, size: int) -> list[list[int]]:
    places: Sequence[int] = range(start, start + count)
    return [list(places[first : first + size]) for first in range(0, count, size)]


def _tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
