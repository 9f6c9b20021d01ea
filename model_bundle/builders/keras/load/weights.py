"""Loads all stored weights into a Keras model, or raises an error that lists those that do not fit."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.untrusted.zips import open_zip
from model_bundle.builders.keras.load.match import check_values, pair_weights, relative_name
from model_bundle.builders.keras.load.save import used_variables
from model_bundle.builders.keras.load.stored_weights import (
    TOP_LEVEL,
    LayerArrays,
    by_layer,
    has_layers,
    read_checkpoint,
    read_layers,
    read_values,
    split_modules,
)
from model_bundle.builders.keras.load.transformers import assign_stand_in_layers, assign_stand_in_values
from model_bundle.errors import SourceError, WeightsMismatchError

_ENDING = ".weights.h5"


def load_weights(model: Any, place: Path, scratch: Path) -> tuple[str, ...]:
    """Loads weights from an HDF5 file of either layout, or from a checkpoint of either kind.

    Args:
        model: a built model of Keras 2 or 3.
        place: the file, or the prefix of a checkpoint.
        scratch: an existing folder.

    Returns:
        Notes for the user.

    Raises:
        WeightsMismatchError: a stored weight is not in the model, or a model's weight is not stored.
        SourceError: the weights cannot be read.
    """
    if zipfile.is_zipfile(place):
        place = unzip_weights(place, scratch)
    if place.is_file():
        if has_layers(place):
            return assign_by_name(model, read_layers(place), str(place))
        return _load_values(model, place, scratch)
    values, has_objects = read_checkpoint(place)
    if not has_objects:
        values, inner = split_modules(values)
        return (*_assign_modules(model, inner, place), *assign_by_name(model, by_layer(values), str(place)))
    # Weights missing from a checkpoint keep their values, which the comparison below detects.
    status = model.load_weights(str(place))
    if hasattr(status, "expect_partial"):
        status.expect_partial()
    own, others = model_values(model), _values(_other_variables(model))
    values, taken = assign_stand_in_values(model, values, str(place))
    check_values(values, own, str(place), others)
    return (f"all {len(values)} weights were found in {place.name}, by the objects they belong to", *taken)


def unzip_weights(place: Path, scratch: Path) -> Path:
    """Extracts the weights of a .keras file; returns their path.

    Raises:
        SourceError: it contains no weights.
    """
    try:
        with open_zip(place, str(place)) as archive:
            return Path(archive.extract(f"model{_ENDING}", scratch))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise SourceError(f"{place} contains no model{_ENDING} ({error}). Save the model again.") from error


def assign_by_name(model: Any, stored: LayerArrays, where: str) -> tuple[str, ...]:
    """Assigns stored weights to a model's by name; returns notes.

    Raises:
        WeightsMismatchError: a name exists on one side only, or shapes differ.
    """
    variables = _variables(model)
    stored, taken = assign_stand_in_layers(model, stored, where)
    pairs, notes = pair_weights(
        {layer: _described(layer, arrays) for layer, arrays in stored.items()},
        {layer: _described(layer, found) for layer, found in variables.items()},
        where,
    )
    for (layer, index), (own, position) in pairs:
        variables[own][position][1].assign(stored[layer][index][1])
    return (f"all {len(pairs)} weights were found in {Path(where).name}, by name", *taken, *notes)


def _assign_modules(model: Any, stored: Mapping[str, np.ndarray], place: Path) -> tuple[str, ...]:
    """Assigns a checkpoint's variables to the TF-Hub modules inside layers; returns notes.

    Raises:
        WeightsMismatchError: a stored variable is not in the modules, or its shape differs.
    """
    variables = {_name(variable).removesuffix(":0"): variable for variable in _used(model)} if stored else {}
    unused = sorted(f"module/{name}" for name in stored.keys() - variables.keys())
    wrong = [
        f"module/{name}: stored {value.shape}, expected {tuple(variables[name].shape)}"
        for name, value in stored.items()
        if name in variables and value.shape != tuple(variables[name].shape)
    ]
    if unused or wrong:
        raise WeightsMismatchError(str(place), unused=unused, wrong_shapes=wrong)
    for name, value in stored.items():
        variables[name].assign(value)
    if not {id(variable) for variable in variables.values()} <= {id(one) for one in _used(model)}:
        raise SourceError(
            "A function of the model loads its TF-Hub module anew with each call, so that stored weights "
            "would be lost. Load it once, outside the function: MODULE = hub.load(HANDLE)"
        )
    return (f"{len(stored)} weights of a TF-Hub module were found in {place.name}",) if stored else ()


def _used(model: Any) -> list[Any]:
    """Returns variables outside the model's weights: those known to layers, then others that it reads."""
    own = {id(weight) for weight in _weights(model)}
    known = _other_variables(model)
    own |= {id(variable) for variable in known}
    return [*known, *(variable for variable in used_variables(model) if id(variable) not in own)]


def _other_variables(model: Any) -> list[Any]:
    """Returns the model's variables that are not among its weights: those of modules inside layers."""
    import tensorflow as tf

    own = {id(weight) for weight in _weights(model)}
    found = [part for part in tf.train.TrackableView(model).descendants() if isinstance(part, tf.Variable)]
    return [part for part in found if id(part) not in own]


def check_loaded(model: Any, stored: Mapping[str, np.ndarray], where: str) -> tuple[str, ...]:
    """Checks that Keras itself loaded every weight; see ``check_values``."""
    own = model_values(model)
    rest, taken = assign_stand_in_values(model, stored, where)
    check_values(rest, own, where)
    return (f"all {len(rest)} weights were found in {Path(where).name}, by the layers they belong to", *taken)


def model_values(model: Any) -> dict[str, np.ndarray]:
    """Returns a model's weights by name, numbered to make names distinct."""
    return _values(_weights(model))


def _values(weights: Sequence[Any]) -> dict[str, np.ndarray]:
    return {f"{index}: {_name(weight)}": np.asarray(weight) for index, weight in enumerate(weights)}


def _load_values(model: Any, place: Path, scratch: Path) -> tuple[str, ...]:
    """Loads the layout of .keras files, which Keras recognises by the name of the file."""
    values = read_values(place)
    link = place
    if not place.name.endswith(_ENDING):
        link = scratch / f"stored{_ENDING}"
        link.symlink_to(place.resolve())
    try:
        model.load_weights(str(link))
    except (ValueError, KeyError) as error:
        raise SourceError(
            f"{place} contains weights of other layers than the model's ({error}). It contains: "
            f"{', '.join(sorted(values)) or 'none'}; the model's: {', '.join(model_values(model))}."
        ) from error
    return check_loaded(model, values, str(place))


def _variables(model: Any) -> dict[str, list[tuple[str, Any]]]:
    """Returns a model's weights by layer; those outside layers are listed as in HDF5 files."""
    layers: dict[str, list[tuple[str, Any]]] = {}
    seen: set[int] = set()
    for layer in model.layers:
        layers[layer.name] = [(_name(weight), weight) for weight in _weights(layer) if id(weight) not in seen]
        seen |= {id(weight) for weight in _weights(layer)}
    layers[TOP_LEVEL] = [(_name(weight), weight) for weight in _weights(model) if id(weight) not in seen]
    return layers


def _weights(layer: Any) -> list[Any]:
    """Returns the weights, without the vocabularies that Keras 2 includes, which are tables."""
    return [weight for weight in layer.weights if hasattr(weight, "assign")]


def _described(layer: str, weights: list[tuple[str, Any]]) -> list[tuple[str, tuple[int, ...]]]:
    return [(relative_name(name, layer), tuple(weight.shape)) for name, weight in weights]


def _name(weight: Any) -> str:
    """Returns the full name, which is ``path`` in Keras 3 and ``name`` in Keras 2."""
    return str(getattr(weight, "path", weight.name))
