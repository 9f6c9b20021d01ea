"""Runs a whole training: data, vectors, head, encoder, bundle. Imports TensorFlow and Keras."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import check_output
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import sha256_of
from model_bundle.inference.scores import scores_of
from model_bundle.training.export import Classifier, write_classifier
from model_bundle.training.features import Notify, VectorPlan, compute_vectors, plan_vectors
from model_bundle.training.options import TrainOptions
from model_bundle.training.report import Evaluation, Metrics, write_training
from model_bundle.training.split import TrainingData, row_weights


@dataclass(frozen=True)
class TrainResult:
    """The new bundle, and its metrics on the held-out rows."""

    bundle: ModelBundle
    metrics: Metrics


def train_bundle(
    base: ModelBundle, data: TrainingData, options: TrainOptions, output: Path, notify: Notify
) -> TrainResult:
    """Trains a classifier on a bundle.

    Args:
        base: an opened bundle that outputs vectors.
        data: the result of ``read_data`` for ``options.data``.
        options: see ``TrainOptions``.
        output: the folder to create.
        notify: called with progress messages.

    Returns:
        The bundle, with ``training/metrics.json``, ``predictions.csv`` and ``report.html`` inside.

    Raises:
        SettingsError: an option does not fit, or the model fails on a row, which the message names.
        SourceError: ``output`` already exists.
    """
    check_output(output)
    plan = plan_vectors(base, mix=options.head.mix, max_tokens=options.max_tokens)
    notify(
        f"rows: {len(data.train)} for training, {len(data.held_out)} held out; "
        f"labels: {', '.join(data.labels)}"
    )
    row_weights(data.classes(data.train), data.labels, options.head.class_weights)
    trained, logits, history = _are_consistent(plan, data, options, notify)
    classes = data.classes(data.held_out)
    scores = scores_of(logits, "softmax")
    metrics = Metrics.of(data.labels, classes, logits.argmax(axis=1))
    where = (
        data.held_out.path.name
        if options.data.dev
        else f"{options.data.held_out:g} of {options.data.data.name}"
    )
    judged = Evaluation(where, data.held_out.rows, classes, scores, metrics)
    settings = _settings(base, options, data)
    read = {"data": options.data.data, "dev": options.data.dev}
    bundle = write_classifier(
        trained,
        options.name or f"{base.manifest.name}-classifier",
        {f"{name}/{path.name}": sha256_of(path) for name, path in read.items() if path is not None},
        output,
        lambda folder: write_training(folder, judged, settings, history),
    )
    return TrainResult(bundle, metrics)


def _are_consistent(
    plan: VectorPlan, data: TrainingData, options: TrainOptions, notify: Notify
) -> tuple[Classifier, np.ndarray, tuple[dict[str, float], ...]]:
    """Trains the head, then, with ``fine_tune``, head and encoder."""
    from model_bundle.layers.keras_setup import keras
    from model_bundle.training.fine_tune import check_family, fine_tune
    from model_bundle.training.head import Batch, fit_head

    if options.head.fine_tune:
        check_family(plan)
    classes = data.classes(data.train), data.classes(data.held_out)
    vectors = compute_vectors(plan, {"train": data.train, "held-out": data.held_out}, notify)
    keras.utils.set_random_seed(options.head.seed)
    batches = [
        Batch(vectors[name], part.numbers, own)
        for name, part, own in zip(vectors, (data.train, data.held_out), classes, strict=True)
    ]
    fit = fit_head(batches[0], batches[1], data.labels, options.head, notify)
    weights = None
    if options.head.fine_tune:
        tuned = fine_tune(plan, fit.head, data, classes, options.head, notify)
        fit, weights = tuned.fit, tuned.weights
    trained = Classifier(plan, fit.head, data.labels, options.data.numeric_columns, weights)
    return trained, fit.logits, fit.history


def _settings(base: ModelBundle, options: TrainOptions, data: TrainingData) -> dict[str, Any]:
    """Returns the settings to record, without time and paths, so that trainings are reproducible."""
    names = ("tensorflow", "keras", "numpy", "tokenizers")
    return {
        "base_bundle": base.manifest.name,
        "base_bundle_digest": base.digest,
        "max_tokens": options.max_tokens,
        "num_train_rows": len(data.train),
        "num_held_out_rows": len(data.held_out),
        "options": options.head.to_json(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }
