"""Runs the stages in order: training data, words, language model, mix, bilm files, bundle."""

from __future__ import annotations

import json
from pathlib import Path

from model_bundle.builders.assemble import check_output
from model_bundle.runtime.tensorflow_setup import import_tensorflow

FILES = "bilm"
OPERATION_THREADS = 1


def make_bundle(text: Path, work: Path, output: Path) -> str:
    """Builds the bilm files and the bundle and returns the bundle's digest.

    Args:
        text: the file of sentences.
        work: keeps the teacher's vectors, checkpoints of each stage and ``bilm``, the folder of the files: a
            recipe that was stopped goes on from there.
        output: the folder of the bundle.

    Raises:
        SourceError: ``output`` is there already.
        ValueError: ``text`` is another file.
    """
    check_output(output)
    from recipes.elmo_mini.export import build_bundle

    if not (work / FILES / "weights.hdf5").is_file():
        train_files(text, work)
    return build_bundle(work / FILES, output).digest


def train_files(text: Path, work: Path) -> None:
    """Runs all stages up to the bilm files in the work folder."""
    import_tensorflow(operation_threads=OPERATION_THREADS)
    from recipes.bert_mini.teacher import Teacher
    from recipes.elmo_mini.export import write_files
    from recipes.elmo_mini.finish import finish, whiten
    from recipes.elmo_mini.language_model import train_language_model
    from recipes.elmo_mini.lessons import make_lessons
    from recipes.elmo_mini.network import Network
    from recipes.elmo_mini.shape import SHAPE, first_weights
    from recipes.elmo_mini.word_layer import fit_projection, train_words

    lessons = make_lessons(text, Teacher(work / "teacher"))
    network = Network(SHAPE, first_weights())
    checkpoints = work / "checkpoints"
    fit_projection(network, lessons)
    train_words(network, lessons, checkpoints)
    scales = whiten(network, lessons)
    learned = train_language_model(network, lessons, checkpoints)
    weights, layer_weights, chosen = finish(network, lessons, scales)
    (work / "learned.json").write_text(json.dumps(learned | chosen) + "\n")
    write_files(weights, layer_weights, work / FILES)
