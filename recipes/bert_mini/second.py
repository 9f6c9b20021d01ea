"""The second stage: more text, a second teacher, and batches of texts that are near each other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_bundle.builders.graphs.bert_config import BertConfig
from recipes.bert_mini.lessons import Lessons, Start, tokenized
from recipes.bert_mini.reviews import reviews
from recipes.bert_mini.scenes import scenes
from recipes.bert_mini.sentences import pairs, read_sentences
from recipes.bert_mini.start import principal_axes
from recipes.bert_mini.teacher import Teacher
from recipes.bert_mini.train import TrainableEncoder, Trainer, mean_states, padded
from recipes.held_out import without_held_out

SEED = 2
# Of the teachers: twice as fast as float32 where the processor has it, and vectors of cosine 0.9999 to those.
PRECISION = "bfloat16"
NUM_SPLITS = 4_096
NUM_MEANINGS = 12_288
NUM_REVIEWS = 14_336
NUM_SCENES = 8_192
NUM_PAIRS = 2_048
# A sentence of WikiSplit and the two that say the same follow each other in its file.
_SPLIT_LINES = 3
# Texts that are near each other and come in one batch: about 16 of 256.
LEAF_TEXTS = 24
EPOCHS = 4
# Peak learning rates of the layers and of the token embeddings.
RATES = (1.2e-3, 3.0e-3)
# Share of the squared length that each teacher has in a target.
SHARES = (0.5, 0.5)
_ALIGNED_TEXTS = 8_192


def further_texts(text: Path, wordnet: Path) -> dict[str, list[str]]:
    """Generates the texts of the second stage, deterministic.

    Raises:
        ValueError: one of the files is another one.
    """
    from recipes.bert_mini.wordnet import read_wordnet

    sentences = read_sentences(text)
    splits = [sentences[start : start + _SPLIT_LINES] for start in range(0, len(sentences), _SPLIT_LINES)]
    random.Random(SEED).shuffle(splits)
    meanings = list(read_wordnet(wordnet))
    random.Random(SEED).shuffle(meanings)
    shuffled = random.Random(SEED).sample(sentences, len(sentences))
    return {
        "splits": without_held_out(some for texts in splits[:NUM_SPLITS] for some in texts),
        "meanings": without_held_out(some for texts in meanings[:NUM_MEANINGS] for some in texts),
        "reviews": without_held_out(reviews(SEED, NUM_REVIEWS)),
        "more scenes": without_held_out(scenes(SEED, NUM_SCENES)),
        "more pairs": without_held_out(pairs(shuffled, SEED, NUM_PAIRS)),
    }


def further_lessons(texts: dict[str, list[str]], teacher: Teacher, second: Teacher) -> Lessons:
    """Builds the lessons: the vectors of both teachers side by side, of length 1 together."""
    flat = [some for kind in texts.values() for some in kind]
    first = np.concatenate([teacher.vectors(some, kind) for kind, some in texts.items()])
    other = np.concatenate([second.vectors(some, kind) for kind, some in texts.items()])
    vectors = joined(first, other)
    return Lessons(tokenized(flat, teacher.tokenizer_file), vectors, [])


def joined(first: np.ndarray, second: np.ndarray, shares: Sequence[float] = SHARES) -> np.ndarray:
    """Returns float16[texts, dims]: unit vectors side by side, so that a cosine is the mean of theirs."""
    parts = [
        part.astype(np.float32) * np.sqrt(share) for part, share in zip((first, second), shares, strict=True)
    ]
    return np.concatenate(parts, axis=1).astype(np.float16)


def neighbours(vectors: np.ndarray, seed: Sequence[int], size: int = LEAF_TEXTS) -> list[list[int]]:
    """Groups texts with similar ones, each in one group of at most ``size``.

    A random tree: texts are halved at the median along the difference of two of them, over and over.
    Source: Dasgupta and Freund, "Random projection trees and low dimensional manifolds", STOC 2008.
    """
    choose = np.random.default_rng(seed)
    groups, waiting = [], [np.arange(len(vectors))]
    while waiting:
        places = waiting.pop()
        if len(places) <= size:
            groups.append(places.tolist())
            continue
        one, other = vectors[choose.choice(places, 2, replace=False)].astype(np.float32)
        order = places[np.argsort(vectors[places].astype(np.float32) @ (one - other), kind="stable")]
        waiting += np.array_split(order, 2)
    return groups


def aligned_start(weights: dict[str, np.ndarray], lessons: Lessons, config: BertConfig) -> Start:
    """Returns the trained weights, and axes of the new targets turned towards the vectors they give.

    The rotation is that of the orthogonal Procrustes problem: Schönemann, Psychometrika 31, 1966.
    """
    axes = principal_axes(lessons.vectors, config.dim)
    some = np.random.default_rng(SEED).permutation(len(lessons.tokens))[:_ALIGNED_TEXTS]
    wanted = lessons.vectors[some].astype(np.float32) @ axes
    found = encoded(TrainableEncoder(config, weights, "the first stage"), [lessons.tokens[i] for i in some])
    left, _, right = np.linalg.svd(wanted.T @ found)
    return Start(np.asarray(axes @ (left @ right), np.float32), weights)


def encoded(encoder: TrainableEncoder, tokens: Sequence[list[int]], batch: int = 256) -> np.ndarray:
    """Returns float32[texts, dim], of length 1."""
    order = np.argsort([len(text) for text in tokens], kind="stable")
    found = np.empty((len(tokens), encoder.table.shape[1]), np.float32)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        found[places] = mean_states(encoder, *padded([tokens[place] for place in places])).numpy()
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


class SecondTrainer(Trainer):
    """Trains on batches that are made of groups of similar texts, others in each epoch."""

    def _groups_in(self, epoch: int) -> list[list[int]]:
        return neighbours(self._lessons.vectors, (self._seed, epoch))


def train_further(
    weights: dict[str, np.ndarray], lessons: Lessons, config: BertConfig, folder: Path
) -> dict[str, np.ndarray]:
    """Trains the weights of the first stage further and returns the new ones.

    Args:
        weights: float32 by the names of ``weight_shapes``.
        lessons: what to learn.
        config: the encoder's shape.
        folder: where checkpoints are kept.
    """
    start = aligned_start(weights, lessons, config)
    return SecondTrainer(config, start, lessons, folder, SEED, EPOCHS, RATES).run()
