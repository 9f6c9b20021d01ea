"""A model bundle as a Keras layer: states or vectors, frozen or trainable. Imports TensorFlow and Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import BundleFormatError, SettingsError
from model_bundle.layers.graph import ALL_LAYERS, OWN_FAMILIES, BundleGraph, describe
from model_bundle.layers.inputs import BundleInputs
from model_bundle.layers.keras_setup import keras, tf
from model_bundle.runtime.inputs import signature_inputs
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.text import text_input

_PACKED = "packed"


@keras.saving.register_keras_serializable(package="model_bundle")
class BundleEmbedding(keras.layers.Layer):
    """The token states of a bundle's model, or with ``pooling`` its vectors, as a Keras layer.

    Takes the inputs of the bundle's graph. Token ids: int[texts, tokens], or the dict of ``tokenize``.
    Words (ELMo): string[texts, words] padded with empty strings, or that dict, or string[texts], split at
    spaces. Texts: string[texts]. Returns float32[texts, tokens, dim] with a mask that Keras layers respect;
    float32[texts, dim] with ``pooling`` or if the output is one per text; a list of them for ``layer="all"``.

    The layer is saved completely: its configuration contains the graph and the tokenizer, its weights are
    ordinary Keras weights. Loading needs no path.

    Args:
        bundle: a folder, a known name, or an opened bundle of the task ``embed``.
        max_tokens: truncate or pad every text to this many tokens; None keeps the given length.
        layer: one of the bundle's layer names; None is its default, ``all`` returns every layer.
        pooling: None, or how states become one vector: see ``Pooling``; all but ``pooler``.
        normalize: scale pooled vectors to length 1.
        labels: class names of the model built on top, in the order of its outputs; they are kept for the
            bundle that is built from the model.
        trainable: possible for this package's graphs: BERT (all weights on the path to the output) and ELMo
            (the weights of the mix and gamma). Others stay frozen.
        name, dtype: as for every layer.

    Raises:
        ModelBundleError: there is no such bundle, or it is damaged.
        ValueError: an option does not fit the bundle.
    """

    def __init__(
        self,
        bundle: ModelBundle | Path | str | Mapping[str, str],
        *,
        max_tokens: int | None = None,
        layer: str | None = None,
        pooling: str | None = None,
        normalize: bool = False,
        labels: Sequence[str] = (),
        trainable: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(trainable=trainable, **options)
        graph = BundleGraph(_opened(bundle))
        manifest = graph.manifest
        if manifest.task != "embed":
            raise ValueError(
                f"{manifest.name} is already a classifier; train on a bundle that outputs vectors."
            )
        if manifest.allowed_ops:
            raise ValueError(
                f"{manifest.name} may use {', '.join(manifest.allowed_ops)}: a model saved with it would "
                "contain these operations and be refused when it is loaded."
            )
        if trainable and not graph.is_trainable:
            raise ValueError(
                f"trainable: {manifest.name} is of the family {manifest.family}, which stays frozen; "
                f"trained are {', '.join(OWN_FAMILIES)}."
            )
        try:
            self._outputs = tuple(graph.outputs(layer))
        except SettingsError as error:
            raise ValueError(str(error)) from error
        self.max_tokens, self.layer, self.normalize = max_tokens, layer, normalize
        self.pooling = None if pooling is None else Pooling(pooling)
        self.labels = tuple(labels)
        self._check_pooling(manifest)
        self._inputs = BundleInputs(manifest, max_tokens)
        self._bundle_graph, self._loaded = graph, graph.loaded
        self._description = describe(graph.packed, self.labels, self._token_limit)
        self.supports_masking, self.supports_jit = True, False
        # Strings and ids must not be cast to the layer's type.
        self.autocast = False
        for variable in graph.variables:
            self._keep(variable, graph.trains(variable, list(self._outputs)))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """See the class."""
        tensors, real = self._inputs.graph_inputs(inputs)
        outputs = self._bundle_graph.call(tensors)
        if real is None and "sequence_len" in outputs:
            lengths = outputs["sequence_len"]
            longest = tf.shape(outputs[self._outputs[0]])[1]
            real = tf.sequence_mask(lengths, longest)
        given = [self._finish(name, outputs[name], real) for name in self._outputs]
        return given if self.layer == ALL_LAYERS else given[0]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """Returns texts as inputs of a model with this layer: tensors by input name, padded together.

        Uses the bundle's tokenizer, casing, default prompt and limit, as a job does.
        """
        graph = self._bundle_graph
        manifest = graph.manifest
        prompt = manifest.prompts[manifest.default_prompt] if manifest.default_prompt else ""
        prepared = text_input(graph.folder, manifest, self._token_limit, prompt).prepare(list(texts))
        arrays = prepared.batch(np.arange(len(texts)))
        fed = signature_inputs(arrays, manifest.inputs, manifest.tokenizer.pad_id)
        return {name: tf.constant(array, dtype=manifest.inputs[name].dtype) for name, array in fed.items()}

    def make_inputs(self) -> dict[str, Any]:
        """Creates a ``keras.Input`` per input of the graph, by name; they match ``tokenize``."""
        return {
            name: keras.Input(shape=spec.shape[1:], dtype=spec.dtype.name, name=name)
            for name, spec in self.graph_inputs.items()
        }

    def compute_output_spec(self, inputs: Any, **options: Any) -> Any:
        """Returns shapes without running the graph."""
        del options
        first = keras.tree.flatten(inputs)[0]
        texts, tokens = first.shape[0], self._inputs.length
        if tokens is None and len(first.shape) > 1 and self.max_tokens is None:
            tokens = first.shape[1] if self._token_limit is None else None
        specs = [self._spec(texts, tokens, name) for name in self._outputs]
        return specs if self.layer == ALL_LAYERS else specs[0]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Returns None: ``call`` attaches the mask to its outputs, since only it knows the tokens."""
        del inputs, previous_mask

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration for ``from_config``, which works in any process: it contains no path."""
        return {
            **super().get_config(),
            "bundle": {_PACKED: self._bundle_graph.packed},
            "max_tokens": self.max_tokens,
            "layer": self.layer,
            "pooling": None if self.pooling is None else str(self.pooling),
            "normalize": self.normalize,
            "labels": list(self.labels),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Recreates the layer; its weights are zero until they are loaded.

        Raises:
            BundleFormatError: the file names a bundle instead of containing it; that one is not opened.
        """
        if not isinstance(config.get("bundle"), Mapping):
            raise BundleFormatError(
                f"The layer {config.get('name', cls.__name__)} names a model bundle by its place, "
                f"{config.get('bundle')!r}, instead of containing it. This package never saves that: do not "
                "trust the file. If it is yours, build the model again with that bundle and save it."
            )
        return cls(**config)

    @property
    def description(self) -> Any:
        """The table that keeps the bundle in every format of saving: see ``model_bundle.layers.graph``."""
        return self._description

    @property
    def graph_inputs(self) -> dict[str, Any]:
        """TensorSpecs of the graph's inputs, by name."""
        specs = self._bundle_graph.manifest.inputs
        return {
            name: tf.TensorSpec([None] * spec.num_axes, spec.dtype, name=name) for name, spec in specs.items()
        }

    @property
    def graph_weights(self) -> list[np.ndarray]:
        """The current weights, in the order of ``BundleGraph.variables``."""
        return [variable.numpy() for variable in self._bundle_graph.variables]

    @property
    def _token_limit(self) -> int | None:
        return self.max_tokens or self._bundle_graph.manifest.max_tokens

    def _keep(self, variable: Any, trains: bool) -> None:
        """Tracks a variable of the graph as a weight, without a copy. Source: keras.layers.TFSMLayer."""
        weight = keras.Variable(
            initializer=variable,
            shape=tuple(variable.shape),
            dtype=variable.dtype.name,
            trainable=trains,
            name=variable.name.split(":")[0].replace("/", "."),
        )
        self._track_variable(weight)

    def _check_pooling(self, manifest: Any) -> None:
        is_token = manifest.outputs[self._outputs[0]].kind == "token"
        if self.pooling is Pooling.POOLER or (self.pooling and not is_token):
            raise ValueError(
                f"pooling={self.pooling}: expected mean, max, first, last, mean_sqrt_len or "
                "weighted_mean, for a token-level output."
            )
        if self.normalize and is_token and self.pooling is None:
            raise ValueError("normalize=True is for vectors of texts: also set pooling='mean' or another.")

    def _finish(self, name: str, output: Any, real: Any) -> Any:
        is_token = self._bundle_graph.manifest.outputs[name].kind == "token"
        if self._is_half(name):
            # ELMo's word vectors fill both halves of a layer. Source: equation 1 of its paper.
            output = tf.concat([output, output], axis=-1)
        if self.pooling is not None:
            output = pool_in_graph(output, tf.reduce_sum(tf.cast(real, tf.int32), axis=1), self.pooling)
        if self.normalize:
            output = normalize_in_graph(output)
        if is_token and self.pooling is None and real is not None:
            keras.src.backend.set_keras_mask(output, real)
        return output

    def _spec(self, texts: int | None, tokens: int | None, name: str) -> Any:
        spec = self._bundle_graph.manifest.outputs[name]
        dim = (spec.dim or 0) * (2 if self._is_half(name) else 1)
        has_tokens = spec.kind == "token" and self.pooling is None
        return keras.KerasTensor((texts, tokens, dim) if has_tokens else (texts, dim), dtype="float32")

    def _is_half(self, name: str) -> bool:
        is_elmo = self._bundle_graph.manifest.family == "elmo"
        return is_elmo and self.layer == ALL_LAYERS and name == "word_emb"


def _opened(bundle: ModelBundle | Path | str | Mapping[str, str]) -> ModelBundle | str:
    if isinstance(bundle, Mapping):
        return bundle[_PACKED]
    return bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(bundle)
