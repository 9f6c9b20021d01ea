"""Pairs stored weights with a model's by name, never by order; or checks by value that all were loaded.

Keras pairs the weights of an old HDF5 file with a layer's by order, which depends on which were trainable
when they were saved: two kernels of one shape could be swapped silently.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from model_bundle.errors import SourceError, WeightsMismatchError

_NUMBERED = re.compile(r"^(?P<base>.*?)(?:_(?P<number>\d+))?$")
_T = TypeVar("_T")
# The name within the layer and the shape of each weight, by layer.
_Described = Mapping[str, Sequence[tuple[str, tuple[int, ...]]]]


def relative_name(name: str, layer: str) -> str:
    """Returns a weight's name within its layer.

    >>> relative_name("model/nested/dense_1/kernel:0", "nested")
    'dense_1/kernel'
    """
    parts = name.removesuffix(":0").split("/")
    return "/".join(parts[parts.index(layer) + 1 :] if layer in parts[:-1] else parts)


def pair_weights(
    stored: _Described,
    expected: _Described,
    where: str,
) -> tuple[list[tuple[tuple[str, int], tuple[str, int]]], tuple[str, ...]]:
    """Pairs stored weights with a model's.

    Args:
        stored: name within the layer and shape of each weight, by layer, in the file's order.
        expected: the same of the model.
        where: the file, for errors.

    Returns:
        Pairs of (layer, position) in the file and in the model, and notes on how they were found.

    Raises:
        WeightsMismatchError: lists the weights without a partner on either side.
    """
    stored = {layer: weights for layer, weights in stored.items() if weights}
    expected = {layer: weights for layer, weights in expected.items() if weights}
    layers = _pair_layers(stored, expected, where)
    notes = []
    renamed = [f"{old} is {new} here" for old, new in layers.items() if old != new]
    if renamed:
        notes.append(f"layers were numbered differently when saved: {', '.join(renamed[:6])}")
    pairs: list[tuple[tuple[str, int], tuple[str, int]]] = []
    for old, new in layers.items():
        inner, note = _pair_within(stored[old], expected[new])
        pairs += [((old, one), (new, other)) for one, other in inner]
        notes += [f"{new}: {note}"] if note else []
    _check_all(stored, expected, pairs, where)
    return pairs, tuple(notes)


def _pair_layers(stored: _Described, expected: _Described, where: str) -> dict[str, str]:
    """Pairs layers by name; if numbers differ, by number and by position, which must agree."""
    by_number = pair_names(list(stored), list(expected))
    same_kinds = [_base(name) for name in stored] == [_base(name) for name in expected]
    if set(stored) == set(expected) or not same_kinds:
        return by_number
    readings = [by_number, dict(zip(stored, expected, strict=True))]
    fitting = [reading for reading in readings if _fits(reading, stored, expected)]
    if len(fitting) == 2 and fitting[0] != fitting[1]:
        pairs = "; ".join(
            f"{old} is {fitting[0][old]} by its number, {fitting[1][old]} by its place"
            for old in stored
            if fitting[0][old] != fitting[1][old]
        )
        raise SourceError(
            f"{where}: the pairing of layers is ambiguous. {pairs}. Their shapes are equal, so either "
            "would load. Name the layers in the code as they are named in the file."
        )
    return fitting[0] if fitting else by_number


def _fits(layers: Mapping[str, str], stored: _Described, expected: _Described) -> bool:
    """Whether every weight has a partner of its shape."""
    return len(layers) == len(stored) and all(
        sorted(shape for _, shape in stored[old]) == sorted(shape for _, shape in expected[new])
        for old, new in layers.items()
    )


def pair_names(stored: Sequence[str], expected: Sequence[str]) -> dict[str, str]:
    """Pairs equal names; if some are left, names that differ only in the number that Keras appended.

    >>> pair_names(["dense_11", "dense_12"], ["dense", "dense_1"])
    {'dense_11': 'dense', 'dense_12': 'dense_1'}
    """
    if set(stored) == set(expected):
        return {name: name for name in stored}
    ours, theirs = _by_base(stored), _by_base(expected)
    return {
        old: new
        for base in ours
        if len(ours[base]) == len(theirs.get(base, ()))
        for old, new in zip(ours[base], theirs[base], strict=True)
    }


def check_values(
    stored: Mapping[str, np.ndarray],
    loaded: Mapping[str, np.ndarray],
    where: str,
    others: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Checks that each stored array is a weight of the model, and each weight a stored array.

    Args:
        stored: by name in the file.
        loaded: the model's weights by name.
        where: the file, for errors.
        others: variables that may be stored but need not be, such as those of a TF-Hub module in a layer.

    Raises:
        WeightsMismatchError: lists the arrays without a partner.
    """
    ours, theirs = _by_value(stored), _by_value(loaded)
    spare = _by_value(others or {})
    room = {key: len(theirs.get(key, ())) + len(spare.get(key, ())) for key in ours}
    unused = sorted(name for key, names in ours.items() for name in names[room[key] :])
    missing = sorted(name for key, names in theirs.items() for name in names[len(ours.get(key, ())) :])
    if unused or missing:
        raise WeightsMismatchError(where, missing=missing, unused=unused)


def _pair_within(
    stored: Sequence[tuple[str, tuple[int, ...]]], expected: Sequence[tuple[str, tuple[int, ...]]]
) -> tuple[list[tuple[int, int]], str | None]:
    """Pairs the weights of one layer by name; if names are not distinct, by shape if shapes are."""
    ours, theirs = [name for name, _ in stored], [name for name, _ in expected]
    if len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs):
        plain, other = _renumbered(ours), _renumbered(theirs)
        if set(ours) == set(theirs):
            plain, other = ours, theirs
        return [(plain.index(name), other.index(name)) for name in plain if name in other], None
    shapes = [shape for _, shape in stored]
    if len(set(shapes)) == len(shapes) and sorted(shapes) == sorted(shape for _, shape in expected):
        places = [shape for _, shape in expected]
        pairs = [(index, places.index(shape)) for index, shape in enumerate(shapes)]
        return pairs, "its weights have no distinct names; paired by shape"
    return [], None


def _renumbered(names: Sequence[str]) -> list[str]:
    """Renumbers the parts of names from 0 within each base, in the order of their old numbers."""
    parts = [name.split("/") for name in names]
    for depth in range(max(map(len, parts), default=0)):
        groups: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for part in parts:
            if depth < len(part) - 1:
                groups[tuple(part[:depth])].add(part[depth])
        new = {
            (above, old): f"{base}_{index}"
            for above, found in groups.items()
            for base, olds in _by_base(sorted(found)).items()
            for index, old in enumerate(olds)
        }
        for part in parts:
            if depth < len(part) - 1:
                part[depth] = new[tuple(part[:depth]), part[depth]]
    return ["/".join(part) for part in parts]


def _by_base(names: Iterable[str]) -> dict[str, list[str]]:
    """Groups names by their base, without the number, in the order of the numbers."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.match(name)
        assert match is not None
        groups[match["base"]].append((int(match["number"] or 0), name))
    return {base: [name for _, name in sorted(found)] for base, found in groups.items()}


def _base(name: str) -> str:
    """Returns a name without its number."""
    match = _NUMBERED.match(name)
    assert match is not None
    return match["base"]


def _by_value(arrays: Mapping[str, np.ndarray]) -> dict[tuple[tuple[int, ...], bytes], list[str]]:
    groups: dict[tuple[tuple[int, ...], bytes], list[str]] = defaultdict(list)
    for name, array in arrays.items():
        groups[array.shape, np.ascontiguousarray(array, dtype=np.float64).tobytes()].append(name)
    return groups


def _check_all(
    stored: _Described,
    expected: _Described,
    pairs: Sequence[tuple[tuple[str, int], tuple[str, int]]],
    where: str,
) -> None:
    wrong = [
        f"{_title(old, stored)}: stored {shape}, expected {other}"
        for old, new in pairs
        if (shape := stored[old[0]][old[1]][1]) != (other := expected[new[0]][new[1]][1])
    ]
    unused = sorted(_title(key, stored) for key in _keys(stored) - {old for old, _ in pairs})
    missing = sorted(_title(key, expected) for key in _keys(expected) - {new for _, new in pairs})
    if unused or missing or wrong:
        raise WeightsMismatchError(where, missing=missing, unused=unused, wrong_shapes=wrong)


def _keys(weights: Mapping[str, Sequence[_T]]) -> set[tuple[str, int]]:
    return {(layer, index) for layer, found in weights.items() for index in range(len(found))}


def _title(key: tuple[str, int], weights: _Described) -> str:
    layer, index = key
    name, shape = weights[layer][index]
    return f"{layer}/{name} {list(shape)}"
