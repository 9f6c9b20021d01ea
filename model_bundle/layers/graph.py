"""A bundle's graph inside a Keras layer, and the description of the bundle that saved models carry."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_bundle.base.untrusted.json_text import parse_json
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.packed import pack_bundle, unpack_bundle
from model_bundle.bundle.specs import Precision
from model_bundle.errors import SettingsError
from model_bundle.layers.keras_setup import tf
from model_bundle.runtime.request import check_precision
from model_bundle.runtime.saved_model import load_saved_model
from model_bundle.runtime.tensorflow_setup import import_tensorflow

ALL_LAYERS = "all"
# Families whose graphs are ours: their weights can be trained.
OWN_FAMILIES = ("bert", "mpnet", "electra", "albert", "elmo")
_KEY = "model_bundle"
_BERT_LAYER = re.compile(r"layer_(\d+)/")


class BundleGraph:
    """The float32 signature of a bundle, ready to be called.

    ``loaded`` owns tables and variables and must be kept alive. ``packed`` is the bundle without its weights.

    Args:
        bundle: an opened bundle, or the result of ``pack_bundle``: then weights are zero until loaded.
    """

    def __init__(self, bundle: ModelBundle | str) -> None:
        if isinstance(bundle, ModelBundle):
            self.manifest: BundleManifest = bundle.manifest
            self.packed = pack_bundle(bundle)
            self.folder = bundle.path
            self.loaded = load_saved_model(bundle.path, bundle.manifest, bundle.allowed_ops)
        else:
            # Kept as long as the layer: it contains the tokenizer and the vocabularies of tables.
            self.folder = Path(tempfile.mkdtemp(prefix="model-bundle-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            self.manifest = unpack_bundle(bundle, self.folder, "the Keras model")
            self.packed = bundle
            self.loaded = _load_without_weights(self.folder, self.manifest)
        check_precision(self.manifest, Precision.FLOAT32)
        self._signature = self.loaded.signatures[self.manifest.signature]

    @property
    def variables(self) -> list[Any]:
        """The weights sorted by name, so that their order is the same in every process."""
        return sorted(self._signature.variables, key=lambda variable: (variable.name, str(variable.shape)))

    def outputs(self, layer: str | None) -> list[str]:
        """Returns the outputs of a layer: one, or for ``all`` every output of states.

        Raises:
            SettingsError: there is no such layer.
        """
        bundle = ModelBundle(self.folder, self.manifest, "")
        if layer != ALL_LAYERS:
            return [bundle.output_for(layer)]
        # ELMo's own mix is not a layer.
        names = [name for name in bundle.token_layers.values() if name != "elmo"]
        if not names:
            raise SettingsError(f'layer="all": the bundle {self.manifest.name} has no outputs of layers.')
        return names

    def trains(self, variable: Any, outputs: list[str]) -> bool:
        """Whether a weight is trained when the layer is trainable.

        For BERT those on the path to the outputs, for ELMo only the mix, as in the TF-Hub modules.
        """
        name = variable.name
        if self.manifest.family not in OWN_FAMILIES or not variable.trainable:
            return False
        if self.manifest.family == "elmo":
            return outputs in (["elmo"], ["default"])
        if name.startswith(("pooler/", "classifier/")):
            return "pooler" in outputs and name.startswith("pooler/")
        if name.startswith("sentence/"):
            return self.manifest.default_output in outputs
        found = _BERT_LAYER.match(name)
        highest = max(self._height(output) for output in outputs)
        return found is None or int(found[1]) < highest

    @property
    def is_trainable(self) -> bool:
        """Whether this package built the graph."""
        return self.manifest.family in OWN_FAMILIES

    def call(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Returns all outputs by name."""
        outputs: dict[str, Any] = self._signature(**tensors)
        return outputs

    def _height(self, output: str) -> int:
        """Returns the number of BERT layers below an output."""
        layer = self.manifest.outputs[output].layer
        numbers = [int(spec.layer) for spec in self.manifest.outputs.values() if spec.layer]
        return max(numbers) if layer is None else int(layer)


def _load_without_weights(folder: Path, manifest: BundleManifest) -> Any:
    """Loads a graph whose weights are loaded later; until then they are zero, not undefined."""
    loaded = load_saved_model(folder, manifest, has_weights=False)
    for variable in loaded.signatures[manifest.signature].variables:
        variable.assign(tf.zeros(variable.shape, variable.dtype))
    return loaded


def describe(packed: str, labels: Sequence[str], max_tokens: int | None) -> Any:
    """Builds a table with one JSON entry, since Keras exports every table of a layer, used or not."""
    tf = import_tensorflow()
    text = json.dumps({"packed": packed, "labels": list(labels), "max_tokens": max_tokens})
    entry = tf.lookup.KeyValueTensorInitializer(tf.constant([_KEY]), tf.constant([text]))
    return tf.lookup.StaticHashTable(entry, "", experimental_is_anonymous=True)


def described(loaded: Any) -> dict[str, Any] | None:
    """Returns ``packed``, ``labels`` and ``max_tokens`` from a loaded SavedModel; None if absent."""
    tf = import_tensorflow()
    for part in tf.train.TrackableView(loaded).descendants():
        if isinstance(part, tf.saved_model.experimental.TrackableResource):
            text = _look_up(part.resource_handle)
            if text:
                found: dict[str, Any] = parse_json(text)
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
