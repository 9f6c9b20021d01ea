"""A bundle's graph inside a Keras layer: loaded, with its weights in the layer's own keeping."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.packed import pack_bundle, unpack_bundle
from model_bundle.errors import SettingsError
from model_bundle.layers.keras_setup import tf
from model_bundle.runtime.saved_model import import_custom_ops, load_saved_model

ALL_LAYERS = "all"
_OWN = ("bert", "elmo")
_BERT_LAYER = re.compile(r"layer_(\d+)/")


class BundleGraph:
    """The float32 signature of a bundle, ready to be called.

    ``loaded`` owns tables and variables and must be kept. ``packed`` is the bundle without its weights.

    Args:
        bundle: an opened bundle, or what ``pack_bundle`` gave: then weights are zero until they are loaded.
    """

    def __init__(self, bundle: ModelBundle | str) -> None:
        if isinstance(bundle, ModelBundle):
            self.manifest: BundleManifest = bundle.manifest
            self.packed = pack_bundle(bundle)
            self.folder = bundle.path
            self.loaded = load_saved_model(bundle.path, bundle.manifest, bundle.allowed_ops)
        else:
            # Kept as long as the layer: its tokenizer and the vocabularies of its tables are here.
            self.folder = Path(tempfile.mkdtemp(prefix="model-bundle-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            self.manifest = unpack_bundle(bundle, self.folder, "the Keras model")
            self.packed = bundle
            self.loaded = _load_without_weights(self.folder, self.manifest)
        self._signature = self.loaded.signatures[self.manifest.signature]

    @property
    def variables(self) -> list[Any]:
        """The weights, by name, so that every process has them in one order."""
        return sorted(self._signature.variables, key=lambda variable: (variable.name, str(variable.shape)))

    def outputs(self, layer: str | None) -> list[str]:
        """Names the outputs of a layer: one, or of ``all`` each that gives states.

        Raises:
            SettingsError: there is no such layer.
        """
        bundle = ModelBundle(self.folder, self.manifest, "")
        if layer != ALL_LAYERS:
            return [bundle.output_for(layer)]
        # ELMo's own mix of its layers is none of them.
        names = [name for name in bundle.token_layers.values() if name != "elmo"]
        if not names:
            raise SettingsError(f'layer="all": the bundle {self.manifest.name} gives no states of layers.')
        return names

    def trains(self, variable: Any, outputs: list[str]) -> bool:
        """Whether a weight learns when the layer is trainable.

        Of BERT those on the way to the outputs, of ELMo the mix alone, as it was with the TF-Hub modules.
        """
        name = variable.name
        if self.manifest.family not in _OWN or not variable.trainable:
            return False
        if self.manifest.family == "elmo":
            return outputs in (["elmo"], ["default"])
        if name.startswith(("pooler/", "classifier/")):
            return "pooler" in outputs and name.startswith("pooler/")
        found = _BERT_LAYER.match(name)
        highest = max(self._height(output) for output in outputs)
        return found is None or int(found[1]) < highest

    @property
    def is_trainable(self) -> bool:
        """Whether it is one of our own graphs."""
        return self.manifest.family in _OWN

    def call(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Returns all outputs by name."""
        outputs: dict[str, Any] = self._signature(**tensors)
        return outputs

    def _height(self, output: str) -> int:
        """How many layers of a BERT lie below an output."""
        layer = self.manifest.outputs[output].layer
        numbers = [int(spec.layer) for spec in self.manifest.outputs.values() if spec.layer]
        return max(numbers) if layer is None else int(layer)


def _load_without_weights(folder: Path, manifest: BundleManifest) -> Any:
    """Loads a graph whose weights come later; until then they are zero, not undefined."""
    import_custom_ops(manifest.custom_ops, manifest.name)
    options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=True)
    loaded = tf.saved_model.load(str(folder / SAVED_MODEL_DIR), options=options)
    for variable in loaded.signatures[manifest.signature].variables:
        variable.assign(tf.zeros(variable.shape, variable.dtype))
    return loaded
