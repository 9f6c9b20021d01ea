"""Classes and functions that the original artefacts name, written anew; imported where Keras loads them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_hub as hub
from tensorflow import keras

from tests.conftest import shared_path

ELMO_2, ELMO_3 = "https://tfhub.dev/google/elmo/2", "https://tfhub.dev/google/elmo/3"
DIM = 16


def _texts(inputs: Any) -> Any:
    inputs = tf.cast(inputs, tf.string)
    return tf.squeeze(inputs, axis=1) if inputs.shape.rank == 2 else inputs


class ElmoEmbeddingLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras is not typed
    """Texts to ELMo's states, cut or filled up to a length."""

    def __init__(self, max_sequence_length: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.elmo = hub.load(ELMO_3)
        self.max_sequence_length = max_sequence_length

    def call(self, inputs: Any) -> Any:
        return self.fit_length(self.elmo.signatures["default"](_texts(inputs))["elmo"])

    def fit_length(self, states: Any) -> Any:
        states = states[:, : self.max_sequence_length]
        lack = self.max_sequence_length - tf.shape(states)[1]
        return tf.ensure_shape(
            tf.pad(states, [[0, 0], [0, lack], [0, 0]]), [None, self.max_sequence_length, DIM]
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.max_sequence_length, DIM)


class ElmoEmbeddingLayerCfg(ElmoEmbeddingLayer):
    """The same, which keeps its length in its configuration."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_sequence_length": self.max_sequence_length}


class ElmoTokenEmbeddingLayer(ElmoEmbeddingLayer):
    """Words, empty ones at the end, to states; those of empty words are 0."""

    def call(self, inputs: Any) -> Any:
        words = inputs[:, : self.max_sequence_length]
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(words, ""), tf.int32), axis=1)
        states = self.elmo.signatures["tokens"](tokens=words, sequence_len=lengths)["elmo"]
        mask = tf.sequence_mask(lengths, tf.shape(states)[1], states.dtype)
        return self.fit_length(states * mask[:, :, None])


class ElmoTokensAndLenLayer(ElmoEmbeddingLayer):
    """Words and their number to states."""

    def call(self, inputs: Any) -> Any:
        words, lengths = inputs
        states = self.elmo.signatures["tokens"](tokens=words, sequence_len=tf.reshape(lengths, [-1]))["elmo"]
        return tf.ensure_shape(states, [None, None, DIM])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0][0], None, DIM)


class KerasLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras is not typed
    """A raw mix of the means of ELMo's layers. Not TF-Hub's layer of that name."""

    def __init__(self, output_dim: int, as_post: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_dim, self.as_post = output_dim, as_post
        self.elmo = hub.load(ELMO_2)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.kernel1 = self.add_weight(name="kernel1", shape=(3,))
        self.kernel2 = self.add_weight(name="kernel2", shape=())

    def call(self, inputs: Any) -> Any:
        states = self.elmo.signatures["default"](_texts(inputs))
        means = [
            tf.reduce_mean(states[name], axis=1) for name in ("word_emb", "lstm_outputs1", "lstm_outputs2")
        ]
        total = self.kernel1[1] * means[1] + self.kernel1[2] * means[2]
        if not self.as_post:
            total += self.kernel1[0] * tf.concat([means[0], means[0]], axis=-1)
        return tf.ensure_shape(self.kernel2 * total, [None, self.output_dim])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.output_dim)


class KerasLayerAsPost(KerasLayer):
    """The mix without the words' own vectors, which files of TensorFlow 1 do not tell apart."""

    def __init__(self, output_dim: int, **kwargs: Any) -> None:
        super().__init__(output_dim, as_post=True, **kwargs)


def elmo_embedding(inputs: Any) -> Any:
    """Texts to states."""
    return elmo_module().signatures["default"](_texts(inputs))["elmo"]


def elmo_pooled(inputs: Any) -> Any:
    """Texts to vectors."""
    return elmo_module().signatures["default"](_texts(inputs))["default"]


_LOADED: list[Any] = []


def elmo_module() -> Any:
    """The module, once in a process."""
    if not _LOADED:
        _LOADED.append(hub.load(ELMO_3))
    return _LOADED[0]


class ELMoModel(keras.Model):  # type: ignore[misc]  # Keras is not typed
    """A model around TF-Hub's layer."""

    def __init__(self, trainable: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.elmo = hub.KerasLayer(
            ELMO_3, trainable=trainable, signature="default", signature_outputs_as_dict=True
        )
        self.dense = keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs: Any) -> Any:
        return self.dense(self.elmo(_texts(inputs))["elmo"])


class CustomLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras is not typed
    """A dense layer whose weights have no names."""

    def __init__(self, units: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal", name="b")

    def call(self, inputs: Any) -> Any:
        return tf.matmul(inputs, self.w) + self.b

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def custom_activation(inputs: Any) -> Any:
    """The guide's activation."""
    return tf.nn.tanh(inputs) ** 2


class CustomModel(keras.Model):  # type: ignore[misc]  # Keras is not typed
    """Dense layers in a list."""

    def __init__(self, hidden_units: list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense_layers = [keras.layers.Dense(units) for units in hidden_units]

    def call(self, inputs: Any) -> Any:
        for layer in self.dense_layers:
            inputs = layer(inputs)
        return inputs


class SubclassedModel(keras.Model):  # type: ignore[misc]  # Keras is not typed
    """Three dense layers."""

    def __init__(self, output_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense_1 = keras.layers.Dense(12, activation="relu", name="dense_1")
        self.dense_2 = keras.layers.Dense(12, activation="relu", name="dense_2")
        self.dense_3 = keras.layers.Dense(output_dim, name="predictions")

    def call(self, inputs: Any) -> Any:
        return self.dense_3(self.dense_2(self.dense_1(inputs)))


class NestedDenseLayer(keras.layers.Layer):  # type: ignore[misc]  # Keras is not typed
    """Two dense layers in one."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense_1 = keras.layers.Dense(units, name="dense_1")
        self.dense_2 = keras.layers.Dense(units, name="dense_2")

    def call(self, inputs: Any) -> Any:
        return self.dense_2(self.dense_1(inputs))


def _called(model: Any, size: int) -> Any:
    model(tf.zeros((1, size)))
    return model


def custom_model() -> Any:
    return _called(CustomModel([16, 16, 10]), 5)


def subclassed_model() -> Any:
    return _called(SubclassedModel(10), 20)


def uncalled_model() -> Any:
    return SubclassedModel(10)


def nested(size: int, *, frozen: bool = False) -> Any:
    model = keras.Sequential([keras.Input((size,), name="numbers"), NestedDenseLayer(10, name="nested")])
    model.get_layer("nested").dense_1.trainable = not frozen
    return model


def nested_20() -> Any:
    return nested(20)


def nested_20_frozen() -> Any:
    return nested(20, frozen=True)


def nested_10() -> Any:
    return nested(10)


def mlp(*, dropout: bool = False, head: int | None = 10) -> Any:
    inputs = keras.Input(shape=(20,), name="digits")
    x = keras.layers.Dense(12, activation="relu", name="dense_1")(inputs)
    x = keras.layers.Dense(12, activation="relu", name="dense_2")(x)
    if dropout:
        x = keras.layers.Dropout(0.5)(x)
    outputs = x if head is None else keras.layers.Dense(head, name="predictions")(x)
    return keras.Model(inputs, outputs)


def pretrained() -> Any:
    return mlp(head=None)


def mlp_dropout() -> Any:
    return mlp(dropout=True)


def mlp_other_head() -> Any:
    return mlp(head=5)


def contrived() -> Any:
    """The model of the guide whose checkpoint names a layer and two weights."""
    return _called(ContrivedModel(), 20)


class ContrivedModel(keras.Model):  # type: ignore[misc]  # Keras is not typed
    """A dense layer and two weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(12)
        self.kernel = self.add_weight(name="kernel", shape=(12, 10))
        self.bias = self.add_weight(name="bias", shape=(10,))

    def call(self, inputs: Any) -> Any:
        return tf.matmul(self.dense(inputs), self.kernel) + self.bias


def string_sequential(layer: Any, shape: Any) -> Any:
    return keras.Sequential(
        [
            keras.Input(shape=shape, dtype=tf.string),
            layer,
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(12, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def elmo_string() -> Any:
    return string_sequential(ElmoEmbeddingLayer(5), ())


def elmo_string_column() -> Any:
    return string_sequential(ElmoEmbeddingLayer(5), (1,))


def elmo_tokens() -> Any:
    return string_sequential(ElmoTokenEmbeddingLayer(5), (None,))


def elmo_tokens_and_lengths() -> Any:
    tokens = keras.Input((None,), dtype=tf.string, name="tokens")
    lengths = keras.Input((), dtype=tf.int32, name="sequence_len")
    states = ElmoTokensAndLenLayer(5)([tokens, lengths])
    x = keras.layers.Dense(12, activation="relu")(keras.layers.GlobalAveragePooling1D()(states))
    return keras.Model([tokens, lengths], keras.layers.Dense(2, activation="softmax")(x))


def elmo_mix(*, as_post: bool = False) -> Any:
    texts = keras.Input((1,), dtype=tf.string)
    mixed = KerasLayer(DIM, as_post)(texts)
    return keras.Model(texts, keras.layers.Dense(1, activation="sigmoid", trainable=False)(mixed))


def elmo_mix_as_post() -> Any:
    return elmo_mix(as_post=True)


def bert_classifier() -> Any:
    """The model of 2020 as its author's code makes it, with transformers' own class by its own name."""
    # Not in the transformers of today: a stand-in has its name where this is called.
    from transformers import TFBertModel  # type: ignore[attr-defined]

    folder = shared_path("fixtures/keras_legacy/dev/004/tf23_example1_two_inputs/my_bert_classifier")
    return _classifier(TFBertModel.from_pretrained(str(folder)))


def bert_classifier_of_one_layer() -> Any:
    # Not in the transformers of today: a stand-in has its name where this is called.
    from transformers import TFBertModel  # type: ignore[attr-defined]

    folder = shared_path("fixtures/keras_legacy/dev/004/tf23_example1_kwargs/my_bert_classifier")
    return _classifier(TFBertModel.from_pretrained(str(folder)), by_keyword=True)


def _classifier(bert: Any, *, by_keyword: bool = False) -> Any:
    ids = keras.Input((64,), dtype=tf.int32, name="input_ids")
    mask = keras.Input((64,), dtype=tf.int32, name="attention_mask")
    encoded = bert(ids, attention_mask=mask) if by_keyword else bert([ids, mask])
    return keras.Model([ids, mask], keras.layers.Dense(2, activation="softmax")(encoded[0][:, 0, :]))
