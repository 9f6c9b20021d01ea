"""Reads weights as Keras stores them: HDF5 in two layouts, and two kinds of TensorFlow checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.errors import SourceError

# State of optimizers, counters and random generators; none of it is a weight.
_NO_WEIGHT = re.compile(
    r"^(optimizer|metrics|save_counter|loss_tracker|compile_metrics|keras_api)(/|$)"
    r"|(^|/)(seed_generator|_random_generator)(/|$)"
)
_SLOT = ".OPTIMIZER_SLOT"
_HUB_MODULE = re.compile(r"^module(?:_\d+)?/(.+)$")
_OBJECT_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_TF1_SLOT = re.compile(r"(^|/)(beta[12]_power|global_step|Adam(_\d+)?|Adam/.*|training/.*)$")
TOP_LEVEL = "top_level_model_weights"

# Names within the layer and arrays, by layer, in the order of the file.
LayerArrays = dict[str, list[tuple[str, np.ndarray]]]


@contextmanager
def open_group(path: Path) -> Iterator[Any]:
    """Opens the weights in an HDF5 file: the root, or the weights' group in the file of a whole model.

    Raises:
        SourceError: it cannot be read.
    """
    with open_hdf5(path) as file:
        yield file.get("model_weights", file)


def has_layers(path: Path) -> bool:
    """Whether a file has the older layout, which lists layers and weights by name, not that of .keras."""
    with open_group(path) as group:
        return "layer_names" in group.attrs or "layer_names0" in group.attrs


def read_layers(path: Path) -> LayerArrays:
    """Reads the older HDF5 layout."""
    with open_group(path) as group:
        layers: LayerArrays = {}
        for layer in _listed(group, "layer_names"):
            names = _listed(group[layer], "weight_names")
            layers[layer] = [(name, np.asarray(group[layer][name])) for name in names]
        if TOP_LEVEL in group:
            top = group[TOP_LEVEL]
            layers[TOP_LEVEL] = [(name, np.asarray(top[name])) for name in _listed(top, "weight_names")]
        return layers


def read_values(path: Path) -> dict[str, np.ndarray]:
    """Reads the layout of .keras files: arrays by path, without the optimizer's."""
    import h5py

    values: dict[str, np.ndarray] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not _NO_WEIGHT.search(name):
            values[name] = np.asarray(item)

    with open_group(path) as group:
        group.visititems(note)
    return values


def read_checkpoint(prefix: Path) -> tuple[dict[str, np.ndarray], bool]:
    """Reads a checkpoint of TensorFlow.

    Returns:
        Arrays by name, without the optimizer's; and whether names are those of objects (TensorFlow 2) or of
        variables (TensorFlow 1).

    Raises:
        SourceError: it cannot be read.
    """
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = sorted(reader.get_variable_to_shape_map())
        has_objects = any(name == "_CHECKPOINTABLE_OBJECT_GRAPH" for name in names)
        kept = [name for name in names if _is_weight(name, has_objects)]
        return {name.removesuffix(_OBJECT_VALUE): reader.get_tensor(name) for name in kept}, has_objects
    except (tf.errors.OpError, ValueError, IndexError) as error:
        raise SourceError(
            f"{prefix} is not a complete checkpoint ({error}). Copy all its files again."
        ) from error


def split_modules(values: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Separates the variables of TF-Hub modules, which TensorFlow 1 stores under ``module/``.

    Returns:
        The other variables by name, and those of modules by name within the module.

    Raises:
        SourceError: several modules have variables of one name.
    """
    inner = {name: match[1] for name in values if (match := _HUB_MODULE.match(name))}
    if len(set(inner.values())) < len(inner):
        modules = ", ".join(sorted({name.partition("/")[0] for name in inner}))
        raise SourceError(
            f"The checkpoint has variables of equal names in {modules}: which TF-Hub module is which is not "
            "stored. Build from a SavedModel of the same model."
        )
    return (
        {name: value for name, value in values.items() if name not in inner},
        {inner[name]: value for name, value in values.items() if name in inner},
    )


def by_layer(values: Mapping[str, np.ndarray]) -> LayerArrays:
    """Groups arrays by layer, the first part of a TensorFlow 1 variable name."""
    layers: LayerArrays = {}
    for name, value in values.items():
        layer, _, _ = name.partition("/")
        layers.setdefault(layer, []).append((name, value))
    return layers


def _is_weight(name: str, has_objects: bool) -> bool:
    if not has_objects:
        return _TF1_SLOT.search(name) is None
    return name.endswith(_OBJECT_VALUE) and _SLOT not in name and not _NO_WEIGHT.search(name)


def _listed(group: Any, key: str) -> list[str]:
    """Reads a list of names, which large models store in pieces: weight_names0, weight_names1, ..."""
    if key in group.attrs:
        return [_text(name) for name in group.attrs[key]]
    pieces = (f"{key}{index}" for index in count())
    return [
        _text(name) for piece in takewhile(group.attrs.__contains__, pieces) for name in group.attrs[piece]
    ]


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
