"""Reads the configuration in a Keras file without Keras: the version that wrote it, and what it refers to."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.base.untrusted.zips import open_zip
from model_bundle.builders.keras.load.code_check import find_files, objects_in
from model_bundle.builders.keras.load.transformers import CUSTOM
from model_bundle.builders.keras.source import KerasSource, kind_of, read_architecture
from model_bundle.builders.weights.h5 import open_attributes
from model_bundle.errors import SourceError

_MAX_CONFIG_BYTES = 256_000_000
_WHAT_CODE_MEANS = (
    "This is Python code: loading would run it with your permissions, and it could do anything. "
    "If you trust the author of the file, add --allow_code"
)


@dataclass(frozen=True)
class ModelConfig:
    """An architecture, and the Keras that wrote it: ``2.15.0``, or None if not stated."""

    config: dict[str, Any]
    keras_version: str | None
    where: str

    @property
    def is_keras_3(self) -> bool:
        """Whether Keras 3 or later wrote it, by its version or else its form."""
        number = re.match(r"\d{1,4}", self.keras_version or "")
        return "module" in self.config if number is None else int(number[0]) >= 3

    def layers(self) -> Iterator[dict[str, Any]]:
        """Yields every object in it that has a class, including nested ones."""
        yield from objects_in(self.config)


def read_config(source: KerasSource) -> ModelConfig:
    """Reads the architecture of a zip, an HDF5 file or a JSON file.

    Raises:
        SourceError: there is no architecture, or it is damaged.
    """
    where = str(source.path)
    if source.kind == "keras_zip":
        with open_zip(source.path, where) as archive:
            content = _zip_json(archive, "config.json", where)
            metadata = _zip_json(archive, "metadata.json", where)
        return ModelConfig(content, _text(metadata.get("keras_version")), where)
    if source.kind == "h5_model":
        attributes = open_attributes(source.path)
        content = read_architecture(_text(attributes["model_config"]) or "", where)
        return ModelConfig(content, _text(attributes.get("keras_version")), where)
    content = read_architecture(source.path.read_bytes(), where)
    return ModelConfig(content, _text(content.get("keras_version")), where)


def reject_code(config: ModelConfig, found: Collection[str]) -> None:
    """Rejects a file with code.

    Raises:
        SourceError: ``found`` is not empty; explains the risk and the alternatives.
    """
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise SourceError(
            f"{config.where} contains code, or names code that is not Keras':\n{lines}\n{_WHAT_CODE_MEANS}. "
            "Safer: give your own function "
            "for a Lambda layer (--lambda_function LAYER=MODULE:FUNCTION), your own class or function for "
            "another module's (--custom_objects MODULE:NAME), or build from a SavedModel of the same model, "
            "whose graph runs no Python."
        )


def reject_files(config: ModelConfig) -> None:
    """Rejects a file whose layers name files of this machine, whose content would be in the bundle.

    Raises:
        SourceError: there are such layers.
    """
    found = find_files(config.config)
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise SourceError(
            f"{config.where} names files instead of words:\n{lines}\nThey would be read on this machine and "
            "be put into the bundle. Load the model with Keras where these files are and save it again: "
            "a .keras file then contains the words."
        )


def transformers_layers(config: ModelConfig) -> tuple[str, ...]:
    """Returns the layers that are TensorFlow models of transformers, which version 5 no longer has."""
    names = (str(item["class_name"]).removeprefix(CUSTOM) for item in config.layers())
    endings = ("Model", "Classification", "MainLayer")
    return tuple(dict.fromkeys(name for name in names if name.startswith("TF") and name.endswith(endings)))


def head_settings(path: Path) -> dict[str, Any]:
    """Returns transformers' configuration of the classifier inside a saved model; empty if there is none."""
    kind = kind_of(path)
    if kind not in ("keras_zip", "h5_model", "architecture"):
        return {}
    classes = read_config(KerasSource(kind, path)).layers()
    found = [one["config"] for one in classes if str(one["class_name"]).endswith("ForSequenceClassification")]
    return next((settings for settings in found if isinstance(settings, dict)), {})


def hub_handles(config: ModelConfig) -> tuple[str, ...]:
    """Returns the handles of TF-Hub layers."""
    found = [item["config"].get("handle") for item in config.layers() if isinstance(item.get("config"), dict)]
    return tuple(dict.fromkeys(handle for handle in found if isinstance(handle, str)))


def _zip_json(archive: zipfile.ZipFile, name: str, where: str) -> dict[str, Any]:
    try:
        if archive.getinfo(name).file_size > _MAX_CONFIG_BYTES:
            raise SourceError(f"{where}: {name} is too large for a model's configuration.")
        content = parse_json(archive.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, JsonError) as error:
        raise SourceError(f"{where} is a zip, no Keras model: {name} cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise SourceError(f"{where}: {name} contains a {type(content).__name__}, expected an object.")
    return content


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)
