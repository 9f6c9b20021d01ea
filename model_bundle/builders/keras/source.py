"""Finds the saved model in a place that the user named, and its format by content, not by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal

from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.builders.source_folder import check_inside
from model_bundle.builders.tfhub.handle import SAVED_MODEL_FILES
from model_bundle.builders.weights.h5 import open_attributes
from model_bundle.builders.weights.read import KERAS_H5, KERAS_H5_INDEX, SAFETENSORS, SAFETENSORS_INDEX
from model_bundle.errors import SourceError

Kind = Literal["saved_model", "keras_zip", "h5_model", "h5_weights", "architecture", "checkpoint"]
_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# A SavedModel may be in a version folder (saved_model/1), one level deeper.
_DEPTH = 2
_CONFIG = "config.json"
_TRANSFORMERS = (SAFETENSORS, SAFETENSORS_INDEX, KERAS_H5, KERAS_H5_INDEX)
_WHOLE: tuple[Kind, ...] = ("saved_model", "keras_zip", "h5_model")
_TITLES = {
    "saved_model": "SavedModel",
    "keras_zip": "Keras zip",
    "h5_model": "Keras model in HDF5",
    "h5_weights": "weights in HDF5, no architecture",
    "architecture": "Keras architecture",
    "checkpoint": "TensorFlow checkpoint",
}


@dataclass(frozen=True)
class KerasSource:
    """A saved model: a folder, a file, or the prefix of a checkpoint."""

    kind: Kind
    path: Path

    @property
    def title(self) -> str:
        """The name of its format."""
        return _TITLES[self.kind]


def find_source(place: Path) -> KerasSource:
    """Finds the saved model in a place.

    Args:
        place: a SavedModel's folder, a folder with one model in it, a file, or the prefix of a checkpoint.

    Raises:
        SourceError: there is no model, or there are several, which are listed.
    """
    if place.name in SAVED_MODEL_FILES and place.is_file():
        return KerasSource("saved_model", place.parent)
    kind = kind_of(place)
    if kind is not None:
        return KerasSource(kind, place.with_suffix("") if place.suffix == ".index" else place)
    if not place.exists():
        raise SourceError(f"{place} is not an existing folder, file or checkpoint.")
    if place.is_file():
        raise SourceError(
            f"{place} is not a saved model: expected a zip (.keras), HDF5 (.h5), a Keras architecture in "
            "JSON, a checkpoint (.index) or the folder of a SavedModel."
        )
    found = [KerasSource(kind, path) for path, kind in _inside(place, _DEPTH)]
    whole = [source for source in found if source.kind in _WHOLE]
    chosen = whole or [source for source in found if source.kind == "architecture"] or found
    if not whole and (place / _CONFIG).is_file() and any((place / name).is_file() for name in _TRANSFORMERS):
        raise SourceError(
            f"{place} is a model of transformers. Build it with: "
            f"python -m model_bundle build bert {place} --output DIR (for classes: --task classify)."
        )
    if len(chosen) == 1:
        check_parts(place, chosen[0].path)
        return chosen[0]
    listed = "\n".join(f"  {source.path}  ({source.title})" for source in chosen) or "  nothing"
    raise SourceError(f"{place} does not contain exactly one saved model. Name one:\n{listed}")


def check_parts(folder: Path, model: Path) -> None:
    """Checks that a model found in a folder, or the files of a checkpoint there, are no links out of it."""
    for part in [model] if model.exists() else model.parent.glob(f"{escape(model.name)}.*"):
        check_inside(folder, part)


def kind_of(path: Path) -> Kind | None:
    """Returns the format of the saved model at a path; None if it is not one."""
    if path.is_dir():
        is_model = any((path / name).is_file() for name in SAVED_MODEL_FILES)
        return "saved_model" if is_model else None
    if path.suffix == ".index" or path.with_name(path.name + ".index").is_file():
        return "checkpoint"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_ZIP):
        return "keras_zip"
    if start == _HDF5:
        return "h5_model" if "model_config" in open_attributes(path) else "h5_weights"
    return "architecture" if path.suffix == ".json" and _is_architecture(path) else None


def read_architecture(data: bytes | str, where: str) -> dict[str, object]:
    """Reads a Keras architecture, which may be JSON in a JSON string: ``json.dump(model.to_json(), file)``.

    Raises:
        SourceError: it is not an architecture.
    """
    try:
        content = parse_json(data)
        while isinstance(content, str):
            content = parse_json(content)
    except JsonError as error:
        raise SourceError(f"{where} is not JSON ({error}). Save the architecture again.") from error
    if not isinstance(content, dict) or not {"class_name", "config"} <= content.keys():
        raise SourceError(f"{where} is not a Keras architecture: expected class_name and config.")
    return content


def _is_architecture(path: Path) -> bool:
    try:
        read_architecture(path.read_bytes(), str(path))
    except SourceError:
        return False
    return True


def _inside(folder: Path, depth: int) -> Iterator[tuple[Path, Kind]]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".index":
            yield path.with_suffix(""), "checkpoint"
        elif (kind := kind_of(path)) is not None:
            yield path, kind
        elif path.is_dir() and depth > 1:
            yield from _inside(path, depth - 1)
