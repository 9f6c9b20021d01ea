"""Trains a BERT bundle together with its head. Imports Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.errors import SettingsError
from model_bundle.layers import BundleEmbedding
from model_bundle.layers.graph import OWN_FAMILIES
from model_bundle.layers.keras_setup import keras, tf
from model_bundle.runtime.inputs import signature_inputs
from model_bundle.text import PreparedTexts, text_input
from model_bundle.training.examples import Examples
from model_bundle.training.features import Notify, VectorPlan
from model_bundle.training.head import FitResult, Head
from model_bundle.training.options import HeadOptions
from model_bundle.training.split import TrainingData, row_weights

# The rate rises over this share of the steps and falls to zero over the rest, as BERT was fine-tuned.
# Source: Devlin et al., arXiv:1810.04805, appendix A.2.
_WARM_UP = 0.1
_MAX_NORM = 1.0
# Batches of texts sorted by length together: little padding, and still a different order each epoch.
_POOL_BATCHES = 50
_NUMBERS = "numbers"


@dataclass(frozen=True)
class Tuned:
    """A head, and the weights of the encoder in the order of ``BundleEmbedding.graph_weights``."""

    fit: FitResult
    weights: list[np.ndarray]


class _Part:
    """The texts of one part of the data, tokenized once."""

    def __init__(
        self, plan: VectorPlan, examples: Examples, classes: np.ndarray, weights: np.ndarray
    ) -> None:
        manifest, request = plan.bundle.manifest, plan.request
        side = text_input(plan.bundle.path, manifest, request.max_tokens, request.prompt)
        self.prepared: PreparedTexts = side.prepare(examples.texts)
        self.numbers, self.classes, self.weights = examples.numbers, classes, weights
        self._manifest = manifest

    def fed(self, places: np.ndarray) -> dict[str, Any]:
        """Returns the inputs of the Keras model for some rows."""
        arrays = self.prepared.batch(places)
        fed = signature_inputs(arrays, self._manifest.inputs, self._manifest.tokenizer.pad_id)
        tensors = {n: tf.constant(a, dtype=self._manifest.inputs[n].dtype) for n, a in fed.items()}
        return {**tensors, _NUMBERS: tf.constant(self.numbers[places])}


def check_family(plan: VectorPlan) -> None:
    """Rejects bundles that cannot be fine-tuned, before any work.

    Raises:
        SettingsError: the bundle is no encoder of BERT's kind built by this package.
    """
    manifest = plan.bundle.manifest
    if manifest.family == "elmo" or manifest.family not in OWN_FAMILIES:
        raise SettingsError(
            f"--fine_tune: {manifest.name} is of the family {manifest.family}; only encoders of BERT's "
            "kind built by this package can be fine-tuned. For ELMo, --mix learns the weight of each layer."
        )


def fine_tune(
    plan: VectorPlan,
    head: Head,
    data: TrainingData,
    classes: tuple[np.ndarray, np.ndarray],
    options: HeadOptions,
    notify: Notify,
) -> Tuned:
    """Trains encoder and head, starting from a head trained on frozen vectors; keeps the best epoch.

    Args:
        plan: how vectors are computed.
        head: the initial head.
        data: the rows.
        classes: int32[rows] of the training rows, and of the held-out ones.
        options, notify: see ``fit_head``.
    """
    train, held_out, labels = data.train, data.held_out, data.labels
    embedding, model = _make_model(plan, head, train.numbers.shape[1])
    learned = _Part(plan, train, classes[0], row_weights(classes[0], labels, options.class_weights))
    judged = _Part(plan, held_out, classes[1], np.ones(len(held_out), np.float32))
    options = options.filled()
    learner = _Learner(model, options, notify)
    epochs = learner.epochs
    best = _Best(model)
    for epoch in range(epochs):
        train_loss = learner.learn(learned, epoch)
        logits = _predict(model, judged, learner.batch_texts)
        accuracy = float((logits.argmax(axis=1) == judged.classes).mean())
        loss = _loss(logits, judged.classes)
        best.offer({"train_loss": train_loss, "held_out_loss": loss, "held_out_accuracy": accuracy})
        notify(
            f"fine-tuning: epoch {epoch + 1} of {epochs}, held-out loss {loss:.4f}, accuracy {accuracy:.4f}"
        )
        if best.num_since >= options.patience:
            break
    best.restore()
    fit = FitResult(_plain(model), _predict(model, judged, learner.batch_texts), tuple(best.history))
    return Tuned(fit, embedding.graph_weights)


class _Learner:
    """Runs the steps of an epoch; the learning rate is scheduled over all epochs."""

    def __init__(self, model: Any, options: HeadOptions, notify: Notify) -> None:
        # None of these is None once options are filled in.
        assert options.batch_texts is not None
        assert options.epochs is not None
        assert options.learning_rate is not None
        self.batch_texts, self.epochs = options.batch_texts, options.epochs
        self._rate, self._seed, self._notify = options.learning_rate, options.seed, notify
        self._optimizer = keras.optimizers.Adam(self._rate, global_clipnorm=_MAX_NORM)
        self._step = _make_step(model, self._optimizer)

    def learn(self, part: _Part, epoch: int) -> float:
        """Trains on all rows once; returns the mean loss."""
        losses = []
        num_steps = -(-len(part.classes) // self.batch_texts)
        batches = _shuffled(part.prepared.lengths, self.batch_texts, (self._seed, epoch))
        for number, places in enumerate(batches, 1):
            done = (epoch * num_steps + number) / (self.epochs * num_steps)
            self._optimizer.learning_rate.assign(self._rate * _share(done))
            losses.append(float(self._step(part.fed(places), part.classes[places], part.weights[places])))
            self._notify(f"fine-tuning: epoch {epoch + 1} of {self.epochs}, batch {number} of {num_steps}")
        return float(np.mean(losses))


class _Best:
    """Keeps the weights of the epoch with the best held-out accuracy; ties are broken by the lowest loss.

    The loss alone would stop too early: an encoder gets more confident in its mistakes while it makes fewer.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._key: tuple[float, float] | None = None
        self._weights: list[np.ndarray] = []
        self.history: list[dict[str, float]] = []
        self.num_since = 0

    def offer(self, epoch: dict[str, float]) -> None:
        """Records an epoch, and keeps its weights if it is the best so far."""
        self.history.append(epoch)
        self.num_since += 1
        key = (epoch["held_out_accuracy"], -epoch["held_out_loss"])
        if self._key is None or key > self._key:
            self._key, self.num_since = key, 0
            self._weights = [weight.numpy() for weight in self._model.weights]

    def restore(self) -> None:
        """Restores the weights of the best epoch."""
        for weight, value in zip(self._model.weights, self._weights, strict=True):
            weight.assign(value)


def _make_model(plan: VectorPlan, head: Head, num_numbers: int) -> tuple[BundleEmbedding, Any]:
    request = plan.request
    embedding = BundleEmbedding(
        plan.bundle,
        pooling=None if request.pooling is None else str(request.pooling),
        normalize=request.normalize,
        trainable=True,
    )
    inputs = {**embedding.make_inputs(), _NUMBERS: keras.Input((num_numbers,), name=_NUMBERS)}
    graph_inputs = {name: one for name, one in inputs.items() if name != _NUMBERS}
    state = keras.layers.Concatenate()([embedding(graph_inputs), inputs[_NUMBERS]])
    for index, (kernel, _) in enumerate(head.dense):
        is_last = index == len(head.dense) - 1
        activation = None if is_last else "relu"
        state = keras.layers.Dense(kernel.shape[1], activation=activation, name=f"dense_{index}")(state)
    model = keras.Model(inputs, state)
    for index, weights in enumerate(head.dense):
        model.get_layer(f"dense_{index}").set_weights(weights)
    return embedding, model


def _make_step(model: Any, optimizer: Any) -> Callable[[dict[str, Any], np.ndarray, np.ndarray], Any]:
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def step(fed: Any, classes: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, model(fed, training=True))
            loss = tf.reduce_mean(losses * weights)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        return loss

    return lambda fed, classes, weights: step(fed, tf.constant(classes), tf.constant(weights))


def _shuffled(lengths: np.ndarray, batch_texts: int, seed: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields batches of texts of similar length, in a different order for each seed."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    size = batch_texts * _POOL_BATCHES
    batches = []
    for start in range(0, len(order), size):
        pool = order[start : start + size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[place : place + batch_texts] for place in range(0, len(pool), batch_texts)]
    for index in random.permutation(len(batches)):
        yield batches[index]


def _share(done: float) -> float:
    """Returns the factor of the learning rate after this share of the steps."""
    return min(done / _WARM_UP, (1 - done) / (1 - _WARM_UP) + 1e-3)


def _predict(model: Any, part: _Part, batch_texts: int) -> np.ndarray:
    """Returns logits float32[rows, labels]."""
    lengths = part.prepared.lengths
    order = np.argsort(lengths, kind="stable")
    logits = np.zeros((len(lengths), model.output_shape[-1]), np.float32)
    call = tf.function(lambda fed: model(fed, training=False), reduce_retracing=True)
    for start in range(0, len(order), batch_texts):
        places = order[start : start + batch_texts]
        logits[places] = call(part.fed(places)).numpy()
    return logits


def _loss(logits: np.ndarray, classes: np.ndarray) -> float:
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    log_shares = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    return float(-log_shares[np.arange(len(classes)), classes].mean())


def _plain(model: Any) -> Head:
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    matrices = tuple(tuple(weight.numpy() for weight in layer.weights) for layer in dense)
    return Head(np.zeros(0, np.float32), matrices)
