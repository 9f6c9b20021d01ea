"""Trains a head on frozen vectors: logistic regression, optionally with a hidden layer. Imports Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.layers.keras_setup import keras
from model_bundle.layers.mix import ScalarMix
from model_bundle.training.features import Notify
from model_bundle.training.options import HeadOptions
from model_bundle.training.split import row_weights

# Few rows give small batches, so that an epoch has enough steps.
_MAX_BATCH_ROWS, _MIN_BATCH_ROWS, _STEPS = 256, 8, 25
_LEARNING_RATE = 3e-3
_MONITORED = "cross_entropy"


@dataclass(frozen=True)
class Head:
    """A trained head as plain matrices.

    ``factors``: float32[layers], the weight of each layer in the vector, gamma included; empty for a single
    layer. ``dense``: kernel float32[inputs, outputs] and bias per layer, with ReLU in between. The first
    takes the vector followed by the numbers.
    """

    factors: np.ndarray
    dense: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class Batch:
    """Training data of a head: float32[layers, rows, dim], float32[rows, columns], int32[rows]."""

    vectors: np.ndarray
    numbers: np.ndarray
    classes: np.ndarray

    @property
    def fed(self) -> list[np.ndarray]:
        """The inputs of the Keras model."""
        return [*self.vectors, *([self.numbers] if self.numbers.shape[1] else [])]


@dataclass(frozen=True)
class FitResult:
    """A head, Keras' logits float32[rows, labels] for the held-out rows, and metrics per epoch."""

    head: Head
    logits: np.ndarray
    history: tuple[dict[str, float], ...]


def fit_head(
    train: Batch, held_out: Batch, labels: Sequence[str], options: HeadOptions, notify: Notify
) -> FitResult:
    """Trains until the held-out loss stops improving, and keeps the best epoch."""
    own = options.for_head()
    model = _make_model(train, len(labels), own)
    rate, epochs = own.learning_rate, own.epochs
    assert rate is not None
    assert epochs is not None
    num_rows = len(train.classes)
    batch_rows = own.batch_texts or min(max(num_rows // _STEPS, _MIN_BATCH_ROWS), _MAX_BATCH_ROWS)
    num_steps = epochs * -(-num_rows // batch_rows)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, num_steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # The loss includes the penalty; the metric does not.
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name=_MONITORED),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ],
    )
    weights = row_weights(train.classes, labels, options.class_weights)
    done = model.fit(
        train.fed,
        train.classes,
        sample_weight=weights,
        validation_data=(held_out.fed, held_out.classes),
        epochs=epochs,
        batch_size=batch_rows,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                f"val_{_MONITORED}", mode="min", patience=own.patience, restore_best_weights=True
            ),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: notify(
                    f"head: epoch {epoch + 1} of {epochs}, held-out loss {logs[f'val_{_MONITORED}']:.4f}"
                )
            ),
        ],
    )
    history = tuple(
        {"train_loss": float(loss), "held_out_loss": float(held_out), "held_out_accuracy": float(accuracy)}
        for loss, held_out, accuracy in zip(
            *(done.history[name] for name in (_MONITORED, f"val_{_MONITORED}", "val_accuracy")), strict=True
        )
    )
    logits = model.predict(held_out.fed, batch_size=batch_rows, verbose=0)
    return FitResult(_plain(model), np.asarray(logits), history)


def _make_model(train: Batch, num_labels: int, options: HeadOptions) -> Any:
    penalty = keras.regularizers.L2(options.l2)
    num_layers, _, dim = train.vectors.shape
    inputs = [keras.Input((dim,), name=f"vector_{index}") for index in range(num_layers)]
    vector = ScalarMix(name="mix")(inputs) if num_layers > 1 else inputs[0]
    if train.numbers.shape[1]:
        inputs.append(keras.Input((train.numbers.shape[1],), name="numbers"))
        vector = keras.layers.Concatenate()([vector, inputs[-1]])
    # Standardises every input; folded into the exported matrices.
    together = np.concatenate([train.vectors.mean(axis=0), train.numbers], axis=1).astype(np.float64)
    variance = together.var(axis=0)
    variance[variance < 1e-12] = 1.0
    state = keras.layers.Normalization(mean=together.mean(axis=0), variance=variance, name="scale")(vector)
    if options.hidden:
        hidden = keras.layers.Dense(options.hidden, "relu", name="hidden", kernel_regularizer=penalty)
        state = hidden(state)
    scores = keras.layers.Dense(num_labels, name="labels", kernel_regularizer=penalty)
    return keras.Model(inputs, scores(state))


def _plain(model: Any) -> Head:
    """Extracts the matrices, with the standardisation folded into the first."""
    layers = {layer.name: layer for layer in model.layers}
    names = [name for name in ("hidden", "labels") if name in layers]
    dense = [tuple(weight.numpy().astype(np.float64) for weight in layers[name].weights) for name in names]
    scale = layers["scale"]
    mean, deviation = (
        np.asarray(part, dtype=np.float64).reshape(-1) for part in (scale.mean, scale.variance**0.5)
    )
    kernel, bias = dense[0]
    kernel = kernel / deviation[:, np.newaxis]
    dense[0] = (kernel, bias - mean @ kernel)
    factors = np.zeros(0, np.float32)
    if "mix" in layers:
        scalars = layers["mix"].scalars.numpy().astype(np.float64)
        shares = np.exp(scalars - scalars.max())
        factors = (float(layers["mix"].gamma.numpy()) * shares / shares.sum()).astype(np.float32)
    return Head(factors, tuple((k.astype(np.float32), b.astype(np.float32)) for k, b in dense))
