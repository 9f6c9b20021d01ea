"""The bundle packed inside a Keras model on ``model_bundle.layers``: tokenizer, limit, labels, licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_bundle.builders.assemble import LICENCE_NAME
from model_bundle.builders.keras.input_roles import Role
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.sidecar_files import Sidecar
from model_bundle.builders.licence import Licence
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tokenizer import SubwordTokenizer
from model_bundle.bundle.digest import bundle_digest
from model_bundle.bundle.manifest import TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.packed import unpack_bundle

# The registered names of this package's layers in a file. They bring no code of the file along.
OWN_LAYERS = ("model_bundle>BundleEmbedding", "model_bundle>ScalarMix")
OWN_PREFIX = "model_bundle>"


@dataclass(frozen=True)
class PackedBundle:
    """The bundle of a model's layer, unpacked without its weights, and the layer's own settings."""

    folder: Path
    manifest: BundleManifest
    labels: tuple[str, ...]
    max_tokens: int | None

    def complete(self, choices: KerasChoices, inputs: Mapping[str, Any]) -> KerasChoices:
        """Fills in settings that were not given: roles of inputs, labels, limit, casing, licence."""
        roles = {**self._roles(inputs), **choices.inputs}
        spec = self.manifest.tokenizer
        takes_words = "words" in roles.values()
        takes_strings = takes_words or "text" in roles.values()
        return replace(
            choices,
            inputs=roles,
            labels=choices.labels or self._labels_file(),
            max_tokens=choices.max_tokens
            or (self.max_tokens if spec.kind == "subwords" or takes_words else None),
            word_split=choices.word_split or (spec.word_split if takes_words else None),
            lowercase=bool(spec.lowercase)
            if takes_strings and choices.lowercase is None
            else choices.lowercase,
            licence=choices.licence or self.manifest.licence,
        )

    @property
    def sidecar(self) -> Sidecar:
        """The unpacked folder, in place of a tokenizer folder next to the model."""
        config = {"pad_token_id": self.manifest.tokenizer.pad_id}
        return Sidecar(SourceFolder(self.folder), config, f"that of the bundle {self.manifest.name} inside")

    @property
    def subwords(self) -> SubwordTokenizer:
        """The tokenizer of a model that takes token ids."""
        from tokenizers import Tokenizer

        text = (self.folder / TOKENIZER_FILE).read_text(encoding="utf-8")
        highest = max(Tokenizer.from_str(text).get_vocab().values(), default=-1)
        return SubwordTokenizer(text, self.max_tokens, bool(self.manifest.tokenizer.lowercase), highest + 1)

    @property
    def licence(self) -> Licence:
        """The licence of the bundle, which also applies to a model trained on it."""
        path = self.folder / LICENCE_NAME
        return Licence(self.manifest.licence, path.read_text(encoding="utf-8") if path.is_file() else "")

    @property
    def digests(self) -> dict[str, str]:
        """The bundle's own digest, to record among the files of the source."""
        return {f"inside/{self.manifest.name}/bundle.json": bundle_digest(self.manifest)}

    def _roles(self, inputs: Mapping[str, Any]) -> dict[str, Role]:
        """Returns the role of the only input of a dtype, whatever its name."""
        strings = [name for name, spec in inputs.items() if spec.dtype.name == "string"]
        whole = [name for name, spec in inputs.items() if spec.dtype.is_integer and spec.shape.rank == 2]
        if self.manifest.tokenizer.kind == "subwords":
            return {whole[0]: "ids"} if len(whole) == 1 else {}
        if len(strings) != 1:
            return {}
        return {strings[0]: "words" if inputs[strings[0]].shape.rank == 2 else "text"}

    def _labels_file(self) -> Path | None:
        if not self.labels:
            return None
        path = self.folder / "labels.json"
        path.write_text(json.dumps(self.labels), encoding="utf-8")
        return path


def find_packed_bundle(loaded: Any, folder: Path, where: str) -> PackedBundle | None:
    """Finds and unpacks the bundle in a model; None if it has none.

    Args:
        loaded: a loaded SavedModel.
        folder: receives the files; created if it does not exist.
        where: what to call the model in an error.

    Raises:
        ModelBundleError: the packed bundle is not valid. See ``unpack_bundle``.
    """
    from model_bundle.layers.graph import described

    found = described(loaded)
    if found is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    manifest = unpack_bundle(found["packed"], folder, where)
    return PackedBundle(folder, manifest, tuple(found["labels"]), found["max_tokens"])
