"""What a saved model says of the bundle inside it: a table of one entry, which every way of saving keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from model_bundle.runtime.tensorflow_setup import import_tensorflow

_KEY = "model_bundle"


def describe(packed: str, labels: Sequence[str], max_tokens: int | None) -> Any:
    """Builds the table. Keras exports the tables of a model's layers, whether they are used or not."""
    tf = import_tensorflow()
    text = json.dumps({"packed": packed, "labels": list(labels), "max_tokens": max_tokens})
    entry = tf.lookup.KeyValueTensorInitializer(tf.constant([_KEY]), tf.constant([text]))
    return tf.lookup.StaticHashTable(entry, "", experimental_is_anonymous=True)


def described(loaded: Any) -> dict[str, Any] | None:
    """Finds it in a loaded SavedModel: ``packed``, ``labels``, ``max_tokens``; None where there is none."""
    tf = import_tensorflow()
    for part in tf.train.TrackableView(loaded).descendants():
        if isinstance(part, tf.saved_model.experimental.TrackableResource):
            text = _look_up(part.resource_handle)
            if text:
                found: dict[str, Any] = json.loads(text)
                return found
    return None


def _look_up(table: Any) -> bytes:
    tf = import_tensorflow()
    try:
        value = tf.raw_ops.LookupTableFindV2(
            table_handle=table, keys=tf.constant([_KEY]), default_value=tf.constant("")
        )
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
        # A table of another type, or another resource.
        return b""
    return bytes(value.numpy()[0])
