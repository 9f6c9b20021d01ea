"""Runs the stages in order: texts, teacher, initial weights, training, bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_bundle.builders.assemble import check_output
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from recipes.bert_mini.texts import SEED, training_texts

WEIGHTS = "weights.npz"


def make_bundle(text: Path, work: Path, output: Path) -> str:
    """Builds the bundle and returns its digest.

    Args:
        text: the file of sentences.
        work: keeps the teacher's vectors, a checkpoint of each epoch and the weights: a recipe that was
            stopped goes on from there.
        output: the folder of the bundle.

    Raises:
        SourceError: ``output`` is there already.
        ValueError: ``text`` is another file.
    """
    check_output(output)
    if not (work / WEIGHTS).is_file():
        weights = train_weights(text, work)
        partial = work / f"partial-{WEIGHTS}"
        np.savez(partial, **weights)  # type: ignore[arg-type]  # numpy's own names are among its arguments
        partial.replace(work / WEIGHTS)
    from recipes.bert_mini.export import export_bundle

    with np.load(work / WEIGHTS) as stored:
        return export_bundle(dict(stored), output).digest


def make_untrained(output: Path) -> str:
    """Builds a bundle of the same network with random weights and returns its digest.

    Raises:
        SourceError: ``output`` is there already.
    """
    check_output(output)
    from recipes.bert_mini.export import export_bundle
    from recipes.bert_mini.start import random_weights

    return export_bundle(random_weights(SEED), output, "bert-mini-untrained").digest


def train_weights(text: Path, work: Path) -> dict[str, np.ndarray]:
    """Returns the trained weights, float32 by the names of ``weight_shapes``."""
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
