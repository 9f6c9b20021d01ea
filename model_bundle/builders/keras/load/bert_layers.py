"""Keras layers that replace transformers' TensorFlow models, by our graph, without weights of their own.

Import this module inside functions only: it imports TensorFlow and defines classes of the process's Keras.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from model_bundle.builders.bert.families.registry import encoder_config, find_family
from model_bundle.builders.bert.match_weights import pair_names, read_weights
from model_bundle.builders.bert.weight_names import enclosing_scope
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.weights.stored import StoredWeights, as_float32
from model_bundle.errors import SourceError

# Outputs in the order of transformers' classes.
_ORDER = ("logits", "last_hidden_state", "pooler_output", "hidden_states")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Options of ``from_pretrained`` on where weights come from.
_FETCHING = (
    "from_pt",
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "token",
    "use_safetensors",
)
# Releases from here on certainly take a call's options in a functional model; older ones ignored them.
_CALLS_COUNT = [4, 30]
_KINDS = {
    "bert": "BERT",
    "distilbert": "DistilBERT",
    "roberta": "RoBERTa",
    "xlm-roberta": "XLM-RoBERTa",
    "camembert": "CamemBERT",
    "electra": "ELECTRA",
    "albert": "ALBERT",
    "mpnet": "MPNet",
}
_WITHOUT_POOLER = ("distilbert", "electra")
_WITHOUT_TYPES = ("distilbert", "mpnet")
# Source: TFRobertaEmbeddings and its copies, whose positions begin after 1 whatever the configuration says.
_PADDED_BY_1 = ("roberta", "xlm-roberta", "camembert")
_WAY_OUT = (
    "Build from a SavedModel of the same model, which contains the whole graph: model.save(DIR) made one."
)


class ModelOutput(dict[str, Any]):
    """The outputs of a model of transformers, by name.

    Keras numbers them by their sorted names, as it does the items of any dict: that is the number by which a
    saved model refers to one of them. Code takes them by name, or by their place in ``order``.

    >>> outputs = ModelOutput(("logits", "hidden_states"), {"logits": 7, "hidden_states": (1, 2)})
    >>> outputs["logits"], outputs.logits, outputs[0], tf.nest.flatten(outputs)
    (7, 7, 7, [1, 2, 7])
    """

    def __init__(self, order: Iterable[str] = (), values: Mapping[str, Any] | None = None) -> None:
        # Sorted, because Keras 3 keeps the order of insertion.
        super().__init__(sorted((values or {}).items()))
        self._order = tuple(order)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError as error:
            raise AttributeError(name) from error

    def to_tuple(self) -> tuple[Any, ...]:
        """Returns the outputs in the order in which the model computes them."""
        return tuple(self.get(name) for name in self._order or self)


class StandIn(tf.keras.layers.Layer):  # type: ignore[misc]  # Keras is not typed
    """A layer with the inputs and outputs of transformers' models; ``settings`` is their ``config.json``."""

    is_classifier = False
    replaces = "TFBertModel"
    kind = "bert"

    def __init__(
        self, settings: Any, name: str | None = None, trainable: bool = True, **options: Any
    ) -> None:
        super().__init__(name=name)
        # Nothing is trained here; it is an option of every layer.
        del trainable
        reject_arguments(options, type(self).__name__)
        stated = settings if isinstance(settings, Mapping) else settings.to_dict()
        self.settings = {"model_type": self.kind, **stated}
        if self.settings["model_type"] in _PADDED_BY_1:
            self.settings["pad_token_id"] = 1
        self.encoder: Any = None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Builds a layer from transformers' configuration, to which its name was added."""
        settings = dict(config)
        return cls(settings, settings.pop("name", None))

    @classmethod
    def from_pretrained(cls, place: str, **options: Any) -> Any:
        """Reads only the configuration: weights come from the file that is being loaded.

        Options of the configuration override it, as in transformers; those of fetching have no effect.
        """
        settings = SourceFolder(Path(place)).json_object("config.json")
        if settings is None:
            raise SourceError(f"{place} has no config.json. Name the folder of the model's configuration.")
        family = find_family({"model_type": cls.kind, **settings}, place).known
        known = {*family.used.split(), *family.without_effect.split(), *family.only}
        settings |= {name: options.pop(name) for name in list(options) if name in known}
        options = {name: value for name, value in options.items() if name not in _FETCHING}
        return cls(settings, options.pop("name", None), **options)

    def assign_stored(self, arrays: Mapping[str, np.ndarray], where: str) -> tuple[str, ...]:
        """Builds our graph with the stored weights; returns notes. See ``read_weights`` for errors."""
        config, weights, notes = match_weights(self.settings, arrays, where, self.is_classifier)
        self.encoder = find_family(self.settings, where).graph()(config, weights, where)
        return notes

    def call(
        self,
        inputs: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: Any = None,
        **others: Any,
    ) -> Any:
        """Computes the model's outputs; see ``split_inputs`` for its inputs.

        Raises:
            SourceError: an argument or a setting would change the results in a way that is not supported.
        """
        if training is True or training == 1:
            raise SourceError(
                f"{self.name} is called with training=True, which drops values at random. {_WAY_OUT}"
            )
        reject_arguments(others, self.name)
        if self._switch("output_attentions", output_attentions):
            raise SourceError(
                f"{self.name} returns attention probabilities, which are not supported. {_WAY_OUT}"
            )
        ids, mask, types = split_inputs(inputs, attention_mask, token_type_ids)
        if types is not None and self.settings["model_type"] in _WITHOUT_TYPES:
            # What these models call by this place in a list is something else.
            reject_arguments({"token_type_ids": types}, self.name)
        ids = tf.cast(ids, tf.int32)
        mask = tf.ones_like(ids) if mask is None else tf.cast(mask, tf.int32)
        types = None if types is None else tf.cast(types, tf.int32)
        if self.encoder is None:
            found = self.shapes_only(ids)
        else:
            states = self.encoder.encode(ids, mask, types=types)
            found = {"hidden_states": tuple(states), **self.finish(states[-1])}
        if not self._switch("output_hidden_states", output_hidden_states):
            del found["hidden_states"]
        outputs = ModelOutput([name for name in _ORDER if name in found], found)
        return outputs if self._switch("return_dict", return_dict, default=True) else outputs.to_tuple()

    def _switch(self, name: str, asked: bool | None, *, default: bool = False) -> bool:
        """Returns an option of a call, or if the call does not state it, of the configuration."""
        stated = self.settings.get(name)
        stated = default if stated is None else bool(stated)
        if asked is None or asked == stated:
            return stated
        written = str(self.settings.get("transformers_version") or "0")
        if [int(part) for part in re.findall(r"\d+", written)[:2]] < _CALLS_COUNT:
            raise SourceError(
                f"{self.name} is called with {name}={asked}, its configuration says {stated}: which of them "
                f"counts depends on the release of transformers ({written}). {_WAY_OUT}"
            )
        return asked

    def shapes_only(self, ids: Any) -> dict[str, Any]:
        """Returns all outputs as zeros of the right shapes, used before weights are assigned."""
        config = encoder_config(self.settings, has_pooler=False, where=self.name)
        states = tf.zeros([tf.shape(ids)[0], tf.shape(ids)[1], config.dim])
        states = tf.ensure_shape(states, [None, ids.shape[1], config.dim])
        # A tensor each: Keras tells outputs apart by their identity.
        layers = [tf.identity(states) for _ in range(config.num_layers + 1)]
        return {"hidden_states": tuple(layers), **self.zeros(states)}

    @property
    def may_pool(self) -> bool:
        """Whether models of this kind have a pooler."""
        return self.settings["model_type"] not in _WITHOUT_POOLER

    def zeros(self, states: Any) -> dict[str, Any]:
        """Returns what ``finish`` does, as zeros."""
        return {"last_hidden_state": states} | ({"pooler_output": states[:, 0]} if self.may_pool else {})

    def finish(self, states: Any) -> dict[str, Any]:
        """Computes the model's outputs from the last layer's states."""
        if not self.may_pool:
            return {"last_hidden_state": tf.identity(states)}
        if self.encoder.has_pooler:
            pooled = self.encoder.pool_first(states)
        else:
            # Nothing may depend on a pooler that was not stored; NaN makes it visible at once.
            pooled = tf.fill(tf.shape(states[:, 0]), np.float32("nan"))
        return {"last_hidden_state": tf.identity(states), "pooler_output": pooled}


class MainLayer(StandIn):
    """A model's main layer, whose stored configuration is that of a layer, with the model's inside."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Builds a layer from Keras' configuration of it."""
        return cls(config["config"], config.get("name"))


class Classifier(StandIn):
    """An encoder with a classification head for whole texts."""

    is_classifier = True
    replaces = "TFBertForSequenceClassification"

    def zeros(self, states: Any) -> dict[str, Any]:
        """Returns what ``finish`` does, as zeros."""
        return {"logits": tf.zeros([tf.shape(states)[0], num_labels(self.settings)])}

    def finish(self, states: Any) -> dict[str, Any]:
        """Computes the model's outputs from the last layer's states."""
        return {"logits": self.encoder.classify(self.encoder.pool_first(states))}


def reject_arguments(given: Mapping[str, Any], name: str) -> None:
    """Rejects arguments of a model of transformers that would be ignored.

    Raises:
        SourceError: names those that are given and not at their default.
    """
    # Without effect on an encoder: only decoders have a cache.
    stated = {key: value for key, value in given.items() if value is not None and key != "use_cache"}
    if stated.get("add_pooling_layer") is True:
        del stated["add_pooling_layer"]
    if stated:
        raise SourceError(
            f"{name} is given {', '.join(sorted(stated))}, which {'is' if len(stated) == 1 else 'are'} not "
            f"supported in a Keras file. {_WAY_OUT}"
        )


def num_labels(settings: Mapping[str, Any]) -> int:
    """Returns the number of classes of a configuration; transformers does not write the default, 2."""
    return len(settings.get("id2label") or ()) or int(settings.get("num_labels") or 2)


def match_weights(
    settings: dict[str, Any], arrays: Mapping[str, np.ndarray], where: str, is_classifier: bool
) -> tuple[BertConfig, dict[str, np.ndarray], tuple[str, ...]]:
    """Pairs the stored weights of a model with those of our graph; returns its shape, weights and notes.

    Raises:
        WeightsMismatchError: weights are missing or unexpected.
    """
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    stored = StoredWeights(shapes, lambda name: as_float32(name, arrays[name], Path(where)), (), "Keras")
    # The layer, whatever it is called.
    stored = stored.inside(enclosing_scope(shapes))
    family = find_family(settings, where)
    names = pair_names(stored, family.names, with_head=is_classifier)
    config = encoder_config(settings, has_pooler=names.has_pooler, where=where)
    if is_classifier:
        config = replace(
            config,
            has_pooler=True,
            pooler_activation=family.head_activation,
            num_labels=num_labels(settings),
        )
    weights = read_weights(config, stored, names, where)
    left_out = [f"left out: {what}: {', '.join(some)}" for what, some in sorted(names.left_out.items())]
    kind = _KINDS[settings["model_type"]]
    return config, weights, (f"{len(weights)} weights of a {kind} were found by name", *left_out)


def split_inputs(inputs: Any, mask: Any, types: Any) -> tuple[Any, Any, Any]:
    """Returns ids, mask and types from any of the three call forms of transformers' models.

    Raises:
        SourceError: there are other inputs, or none of token ids.
    """
    if isinstance(inputs, Mapping):
        others = {key: value for key, value in inputs.items() if key not in _INPUTS}
        reject_arguments(others, "A model of transformers")
        if "input_ids" not in inputs:
            raise SourceError(f"A model of transformers is called without input_ids. {_WAY_OUT}")
        return inputs["input_ids"], inputs.get("attention_mask", mask), inputs.get("token_type_ids", types)
    if isinstance(inputs, (list, tuple)):
        reject_arguments({f"input {i}": x for i, x in enumerate(inputs[3:], 4)}, "A model of transformers")
        ids, mask, types = [*inputs, *(mask, types)[len(inputs) - 1 :]][:3]
        return ids, mask, types
    return inputs, mask, types
