"""Converts a Keras model's texts, words or ids to the inputs of a bundle's graph. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_bundle.bundle.manifest import BundleManifest
from model_bundle.layers.keras_setup import tf


class BundleInputs:
    """Converts a batch of tensors to tensors by the names of the graph's inputs.

    Args:
        manifest: the bundle's.
        max_tokens: truncate or pad every text to this many tokens; None keeps the given length, truncated to
            the model's limit.

    Raises:
        ValueError: the graph takes numeric inputs, or ``max_tokens`` does not fit it.
    """

    def __init__(self, manifest: BundleManifest, max_tokens: int | None) -> None:
        self._manifest = manifest
        self.names = {spec.role: name for name, spec in manifest.inputs.items()}
        lengths = {spec.length for spec in manifest.inputs.values() if spec.length}
        if "numeric" in self.names or manifest.tokenizer.kind == "none":
            raise ValueError(
                f"The bundle {manifest.name} takes numeric inputs; feed it outside of the model."
            )
        if max_tokens is not None and "text" in self.names:
            raise ValueError(f"max_tokens: the graph of {manifest.name} tokenizes itself; leave it out.")
        limit = min(filter(None, (manifest.max_tokens, *lengths)), default=None)
        if max_tokens is not None and (max_tokens < 1 or (limit is not None and max_tokens > limit)):
            raise ValueError(
                f"max_tokens={max_tokens}: {manifest.name} takes 1 to {limit or 'any number of'} tokens."
            )
        self.length = max_tokens or max(lengths, default=None)
        self._limit = limit

    def graph_inputs(self, inputs: Any) -> tuple[dict[str, Any], Any]:
        """Returns tensors by input name, and which tokens are real.

        Args:
            inputs: as for ``BundleEmbedding.call``.

        Returns:
            The tensors, and bool[texts, tokens]; None where the graph tokenizes.
        """
        given = self._by_role(inputs)
        if "text" in self.names:
            return self._cast({"text": given["text"]}), None
        if "words" in self.names:
            words, lengths = self._words(given)
            real = tf.sequence_mask(lengths, tf.shape(words)[1])
            return self._cast({"words": words, "lengths": lengths}), real
        ids, mask = self._ids(given)
        types = self._fit(given["types"], 0) if "types" in given else tf.zeros_like(ids)
        roles = {"ids": ids, "mask": mask, "types": types}
        if "skipped" in self.names:
            roles["skipped"] = self._skipped(given)
        return self._cast(roles), mask > 0

    def _skipped(self, given: Mapping[str, Any]) -> Any:
        if "skipped" not in given:
            raise ValueError(
                f"{self._manifest.name} does not pool the tokens of its prompt, which only its tokenizer can "
                "count: pass the result of layer.tokenize(texts)."
            )
        return given["skipped"]

    def _by_role(self, inputs: Any) -> dict[str, Any]:
        """Returns the inputs by role, whether given by input name or as one tensor."""
        if isinstance(inputs, Mapping):
            by_name = {name: role for role, name in self.names.items()}
            unknown = sorted(set(inputs) - set(by_name))
            if unknown:
                raise ValueError(f"{self._manifest.name} takes {sorted(by_name)}; unknown: {unknown}.")
            return {by_name[name]: tf.convert_to_tensor(value) for name, value in inputs.items()}
        tensor = tf.convert_to_tensor(inputs)
        main = next(role for role in ("text", "words", "ids") if role in self.names)
        if main == "ids" and tensor.dtype == tf.string:
            raise ValueError(
                f"{self._manifest.name} takes token ids, which are computed outside of its graph: pass the "
                f"result of layer.tokenize(texts), not {tensor.dtype.name}."
            )
        if main == "words" and tensor.shape.rank == 1:
            return self._split(tensor)
        return {main: tensor}

    def _split(self, texts: Any) -> dict[str, Any]:
        if self._manifest.tokenizer.word_split != "spaces":
            raise ValueError(
                f"{self._manifest.name} also splits at punctuation, outside of its graph: pass the result "
                "of layer.tokenize(texts), not texts."
            )
        if self._manifest.tokenizer.lowercase:
            texts = tf.strings.lower(texts, "utf-8")
        pieces = tf.strings.split(texts, " ")
        words = tf.ragged.boolean_mask(pieces, pieces != "")
        return {"words": words.to_tensor(""), "lengths": tf.cast(words.row_lengths(), tf.int32)}

    def _words(self, given: Mapping[str, Any]) -> tuple[Any, Any]:
        words = given["words"]
        lengths = given.get("lengths")
        if lengths is None:
            # Up to the last non-empty word: padding is at the end.
            places = tf.range(1, tf.shape(words)[1] + 1) * tf.cast(words != "", tf.int32)
            lengths = tf.reduce_max(tf.pad(places, [[0, 0], [0, 1]]), axis=1)
        words = self._fit(words, "")
        return words, tf.minimum(tf.cast(lengths, tf.int32), tf.shape(words)[1])

    def _ids(self, given: Mapping[str, Any]) -> tuple[Any, Any]:
        pad_id = self._manifest.tokenizer.pad_id
        ids = tf.cast(given["ids"], tf.int32)
        mask = tf.cast(given.get("mask", ids != pad_id), tf.int32)
        limit = self.length or self._limit
        if limit is not None:
            # As the tokenizer truncates: the final special token is kept.
            last = tf.maximum(tf.reduce_sum(mask, axis=1) - 1, 0)
            ending = tf.gather(tf.pad(ids, [[0, 0], [0, 1]]), last, batch_dims=1)[:, tf.newaxis]
            here = tf.range(tf.shape(ids)[1])[tf.newaxis] == limit - 1
            ids = tf.where(here & (last >= limit)[:, tf.newaxis], ending, ids)
        return self._fit(ids, pad_id), self._fit(mask, 0)

    def _fit(self, cells: Any, fill: Any) -> Any:
        """Truncates or pads [texts, tokens]."""
        limit = self.length or self._limit
        cells = cells if limit is None else cells[:, :limit]
        if self.length is None:
            return cells
        lack = self.length - tf.shape(cells)[1]
        filled = tf.pad(cells, [[0, 0], [0, lack]], constant_values=fill)
        return tf.ensure_shape(filled, [None, self.length])

    def _cast(self, roles: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: tf.cast(roles[spec.role], spec.dtype) if spec.dtype != "string" else roles[spec.role]
            for name, spec in self._manifest.inputs.items()
        }
