"""Runs the stages in order: texts, teachers, initial weights, training in two stages, bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_bundle.builders.assemble import check_output
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from recipes.bert_mini.texts import SEED, training_texts

Weights = dict[str, np.ndarray]
FIRST, SECOND = "weights.npz", "weights-second.npz"


@dataclass(frozen=True)
class Sources:
    """The files that the recipe reads.

    ``text`` has sentences, ``wordnet`` is WordNet, ``paraphraser`` the second teacher.
    """

    text: Path
    wordnet: Path
    paraphraser: Path


def make_bundle(sources: Sources, work: Path, output: Path) -> str:
    """Builds the bundle and returns its digest.

    Args:
        sources: the files to read.
        work: keeps the teachers' vectors, a checkpoint of each epoch and the weights of each stage: a recipe
            that was stopped goes on from there.
        output: the folder of the bundle.

    Raises:
        SourceError: ``output`` is there already.
        ValueError: a source is another file.
    """
    check_output(output)
    weights = _kept(work / SECOND, lambda: _second_weights(sources, work))
    from recipes.bert_mini.export import export_bundle

    return export_bundle(weights, output).digest


def make_untrained(output: Path) -> str:
    """Builds a bundle of the same network with random weights and returns its digest.

    Raises:
        SourceError: ``output`` is there already.
    """
    check_output(output)
    from recipes.bert_mini.export import export_bundle
    from recipes.bert_mini.start import random_weights

    return export_bundle(random_weights(SEED), output, "bert-mini-untrained").digest


def train_weights(text: Path, work: Path) -> Weights:
    """Returns the weights of the first stage, float32 by the names of ``weight_shapes``."""
    import_tensorflow(operation_threads=2)
    from recipes.bert_mini.lessons import make_lessons, make_start
    from recipes.bert_mini.start import CONFIG
    from recipes.bert_mini.teacher import Teacher
    from recipes.bert_mini.train import Trainer

    texts = training_texts(text)
    teacher = Teacher(work / "teacher")
    lessons = make_lessons(texts, teacher)
    start = make_start(texts, lessons, teacher, CONFIG.dim)
    return Trainer(CONFIG, start, lessons, work / "checkpoints", SEED).run()


def _second_weights(sources: Sources, work: Path) -> Weights:
    """Returns the weights after both stages."""
    import_tensorflow(operation_threads=2)
    from recipes.bert_mini import second
    from recipes.bert_mini.paraphraser import PARAPHRASER_SHA256, check_paraphraser, paraphraser_bundle
    from recipes.bert_mini.start import CONFIG
    from recipes.bert_mini.teacher import Teacher

    # Files that are wrong are named before anything takes time.
    check_paraphraser(sources.paraphraser)
    texts = second.further_texts(sources.text, sources.wordnet)
    first = _kept(work / FIRST, lambda: train_weights(sources.text, work))
    teacher = Teacher(work / "teacher-second", precision=second.PRECISION)
    vocabulary = teacher.tokenizer_file.read_text(encoding="utf-8")
    bundle = paraphraser_bundle(sources.paraphraser, vocabulary, work / "paraphraser")
    other = Teacher(work / "paraphrases", bundle, PARAPHRASER_SHA256, second.PRECISION)
    lessons = second.further_lessons(texts, teacher, other)
    return second.train_further(first, lessons, CONFIG, work / "checkpoints-second")


def _kept(path: Path, make: Callable[[], Weights]) -> Weights:
    """Returns the weights in a file, which is made first if it is not there."""
    if not path.is_file():
        made = make()
        partial = path.with_name(f"partial-{path.name}")
        np.savez(partial, **made)  # type: ignore[arg-type]  # numpy's own names are among its arguments
        partial.replace(path)
    with np.load(path) as stored:
        return dict(stored)
