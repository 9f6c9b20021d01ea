"""Weights in several files of one format, and the index that lists them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath

from model_bundle.builders.source_folder import read_json
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.errors import SourceError


def open_shards(index: Path, open_one: Callable[[Path], StoredWeights]) -> StoredWeights:
    """Opens the files that an index lists. Weights in a file that are not in the index count too.

    Args:
        index: a JSON file with a ``weight_map``, from weights to files.
        open_one: opens one of these files.

    Raises:
        SourceError: the index lists files outside its folder, a file is missing, or lacks a weight.
    """
    names = _listed_files(index)
    absent = [name for name in sorted(set(names.values())) if not (index.parent / name).is_file()]
    if absent:
        raise SourceError(f"{index} lists files that do not exist: {', '.join(absent)}. Download them.")
    opened = {name: open_one(index.parent / name) for name in sorted(set(names.values()))}
    holders: dict[str, StoredWeights] = {}
    for file, stored in opened.items():
        twice = sorted(stored.shapes.keys() & holders.keys())
        if twice:
            raise SourceError(f"{index.parent / file} has weights of another file, too: {', '.join(twice)}.")
        holders |= dict.fromkeys(stored.shapes, stored)
    lost = sorted(name for name, file in names.items() if not _holds(opened[file], name))
    if lost:
        raise SourceError(f"{index} lists weights that are not in their files: {', '.join(lost)}.")
    shapes = {name: stored.shapes[name] for name, stored in holders.items()}
    files = tuple(path for stored in opened.values() for path in stored.files)
    kind = next(iter(opened.values())).format
    return StoredWeights(shapes, lambda name: holders[name].read(name), files, kind)


def _holds(stored: StoredWeights, name: str) -> bool:
    """Whether a file has a weight; transformers leaves the model's own name out of names in HDF5."""
    return name in stored.shapes or (stored.format == "HDF5" and name.partition("/")[2] in stored.shapes)


def _listed_files(index: Path) -> dict[str, str]:
    """Returns file name by weight name; rejects files outside the folder of the index."""
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise SourceError(f"{index} has no weight_map; download or export the model again.")
    outside = sorted({str(file) for file in names.values() if PurePath(str(file)).name != file})
    if outside:
        raise SourceError(f"{index} points outside its folder: {', '.join(outside)}.")
    return names
