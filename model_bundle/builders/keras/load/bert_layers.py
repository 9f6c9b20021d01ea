"""Keras layers that replace transformers' TensorFlow models, by our graph, without weights of their own.

Import this module inside functions only: it imports TensorFlow and defines classes of the process's Keras.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from model_bundle.builders.bert.match_weights import pair_names, read_weights
from model_bundle.builders.bert.transformers_config import encoder_config
from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.weights.stored import StoredWeights, as_float32
from model_bundle.errors import SourceError

# Prefix of the model's own names: the layer, whatever it is called.
_ABOVE = re.compile(r"^(?:.*?/)?(?=(?:bert|classifier)/)")


class _EncoderOutput(NamedTuple):
    """The outputs of TFBertModel, in its order."""

    last_hidden_state: Any
    pooler_output: Any


class _ClassifierOutput(NamedTuple):
    """The output of TFBertForSequenceClassification."""

    logits: Any


class StandIn(tf.keras.layers.Layer):  # type: ignore[misc]  # Keras is not typed
    """A layer with the inputs of transformers' models; ``settings`` is their ``config.json``."""

    is_classifier = False

    def __init__(self, settings: Any, name: str | None = None, **_: Any) -> None:
        super().__init__(name=name)
        self.settings = dict(settings if isinstance(settings, Mapping) else settings.to_dict())
        self.encoder: Any = None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Builds a layer from transformers' configuration, to which its name was added."""
        settings = dict(config)
        return cls(settings, settings.pop("name", None))

    @classmethod
    def from_pretrained(cls, place: str, *_: Any, **__: Any) -> Any:
        """Reads only the configuration: weights come from the file that is being loaded."""
        settings = SourceFolder(Path(place)).json_object("config.json")
        if settings is None:
            raise SourceError(f"{place} has no config.json. Name the folder of the model's configuration.")
        return cls(settings)

    def assign_stored(self, arrays: Mapping[str, np.ndarray], where: str) -> tuple[str, ...]:
        """Builds our graph with the stored weights; returns notes. See ``read_weights`` for errors."""
        config, weights, notes = match_weights(self.settings, arrays, where, self.is_classifier)
        self.encoder = BertEncoder(config, weights, where)
        return notes

    def call(
        self,
        inputs: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        **_: Any,
    ) -> Any:
        """Computes the model's outputs; see ``split_inputs`` for its inputs."""
        ids, mask, types = split_inputs(inputs, attention_mask, token_type_ids)
        ids = tf.cast(ids, tf.int32)
        mask = tf.ones_like(ids) if mask is None else tf.cast(mask, tf.int32)
        types = None if types is None else tf.cast(types, tf.int32)
        if self.encoder is None:
            return self.shapes_only(ids)
        states = self.encoder.encode(ids, mask, types=types)[-1]
        return self.finish(states)

    def shapes_only(self, ids: Any) -> Any:
        """Returns zeros of the right shapes, used before weights are assigned."""
        states = tf.zeros([tf.shape(ids)[0], tf.shape(ids)[1], self.settings["hidden_size"]])
        return _EncoderOutput(
            tf.ensure_shape(states, [None, ids.shape[1], self.settings["hidden_size"]]), states[:, 0]
        )

    def finish(self, states: Any) -> Any:
        """Computes the model's outputs from the last layer's states."""
        if self.encoder.has_pooler:
            return _EncoderOutput(states, self.encoder.pool_first(states))
        # Nothing may depend on a pooler that was not stored; NaN makes it visible at once.
        return _EncoderOutput(states, tf.fill(tf.shape(states[:, 0]), np.float32("nan")))


class Classifier(StandIn):
    """A BERT with a classification head for whole texts."""

    is_classifier = True

    def shapes_only(self, ids: Any) -> Any:
        """Returns zeros of the right shapes, used before weights are assigned."""
        return _ClassifierOutput(tf.zeros([tf.shape(ids)[0], num_labels(self.settings)]))

    def finish(self, states: Any) -> Any:
        """Computes the model's outputs from the last layer's states."""
        return _ClassifierOutput(self.encoder.classify(self.encoder.pool_first(states)))


def num_labels(settings: Mapping[str, Any]) -> int:
    """Returns the number of classes of a configuration; transformers does not write the default, 2."""
    return len(settings.get("id2label") or ()) or int(settings.get("num_labels") or 2)


def match_weights(
    settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str, is_classifier: bool
) -> tuple[BertConfig, dict[str, np.ndarray], tuple[str, ...]]:
    """Pairs the stored weights of a model with those of our graph; returns its shape, weights and notes.

    Raises:
        WeightsMismatchError: weights are missing or unexpected.
    """
    arrays = {_ABOVE.sub("", name): array for name, array in arrays.items()}
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    stored = StoredWeights(shapes, lambda name: as_float32(name, arrays[name], Path(where)), (), "Keras")
    names = pair_names(stored, with_head=is_classifier)
    config = encoder_config({"model_type": "bert", **settings}, has_pooler=names.has_pooler, where=where)
    if is_classifier:
        config = replace(config, has_pooler=True, num_labels=num_labels(settings))
    weights = read_weights(config, stored, names, where)
    left_out = [f"left out: {what}: {', '.join(some)}" for what, some in sorted(names.left_out.items())]
    return config, weights, (f"{len(weights)} weights of a BERT were found by name", *left_out)


def split_inputs(inputs: Any, mask: Any, types: Any) -> tuple[Any, Any, Any]:
    """Returns ids, mask and types from any of the three call forms of transformers' models."""
    if isinstance(inputs, Mapping):
        return inputs["input_ids"], inputs.get("attention_mask", mask), inputs.get("token_type_ids", types)
    if isinstance(inputs, (list, tuple)):
        ids, mask, types = [*inputs, *(mask, types)[len(inputs) - 1 :]][:3]
        return ids, mask, types
    return inputs, mask, types
