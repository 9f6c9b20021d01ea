"""Pairs every stored weight with one that an encoder needs, or raises an error that lists the rest."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from model_bundle.builders.bert.heads import head_weight
from model_bundle.builders.bert.weight_names import (
    CLASSIFICATION_HEAD,
    PREDICTION_HEAD,
    GraphWeight,
    WeightNames,
)
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.errors import WeightsMismatchError


@dataclass(frozen=True)
class PairedNames:
    """Stored names, classified.

    ``wanted``: the stored name and layout of each weight of our graph. ``left_out``: ignored names by kind.
    ``unknown``: names that are neither, or duplicates.
    """

    wanted: dict[str, tuple[str, GraphWeight]]
    left_out: dict[str, tuple[str, ...]]
    unknown: tuple[str, ...]

    @property
    def has_pooler(self) -> bool:
        """Whether BERT's pooler is stored."""
        return any(name.startswith("pooler/") for name in self.wanted)


def pair_names(stored: StoredWeights, names: WeightNames, *, with_head: bool = False) -> PairedNames:
    """Classifies stored weights by the names of a family; those of a head are wanted only ``with_head``."""
    wanted = _head_names(stored) if with_head else {}
    own_pooler = any(name.startswith("pooler/") for name in wanted)
    in_head = {name for name, _ in wanted.values()}
    left_out: dict[str, list[str]] = defaultdict(list)
    unknown: list[str] = []
    for name in sorted(stored.shapes.keys() - in_head):
        what, weight = names.ignored_kind(name), names.graph_weight(name)
        if own_pooler and weight is not None and weight.name.startswith("pooler/"):
            left_out["pooler that the head does not use"].append(name)
        elif with_head and (twice := head_weight(name)) is not None:
            unknown.append(f"{name} (the same as {wanted[twice.name][0]})")
        elif what is not None and not (with_head and what in (CLASSIFICATION_HEAD, PREDICTION_HEAD)):
            left_out[what].append(name)
        elif weight is None:
            unknown.append(name)
        elif weight.name in wanted:
            unknown.append(f"{name} (the same as {wanted[weight.name][0]})")
        else:
            wanted[weight.name] = (name, weight)
    return PairedNames(wanted, {what: tuple(some) for what, some in left_out.items()}, tuple(unknown))


def _head_names(stored: StoredWeights) -> dict[str, tuple[str, GraphWeight]]:
    """Returns the weights of a head; the caller reports duplicates as unknown."""
    found: dict[str, tuple[str, GraphWeight]] = {}
    for name in sorted(stored.shapes):
        weight = head_weight(name)
        if weight is not None:
            found.setdefault(weight.name, (name, weight))
    return found


def read_weights(
    config: BertConfig, stored: StoredWeights, names: PairedNames, where: str
) -> dict[str, np.ndarray]:
    """Reads an encoder's weights, float32, in the graph's layout.

    Raises:
        WeightsMismatchError: lists every weight that is missing, unexpected or of a wrong shape.
        SourceError: a weight cannot be read.
    """
    expected = weight_shapes(config)
    surplus = [name for key, (name, _) in names.wanted.items() if key not in expected]
    wrong = [
        f"{name}: stored {list(stored.shapes[name])}, expected {_stored_shape(expected[key], weight)}"
        for key, (name, weight) in names.wanted.items()
        if key in expected and list(stored.shapes[name]) != _stored_shape(expected[key], weight)
    ]
    missing = [key for key in expected if key not in names.wanted]
    unused = sorted([*names.unknown, *surplus])
    if missing or unused or wrong:
        raise WeightsMismatchError(where, missing=missing, unused=unused, wrong_shapes=wrong)
    return {key: _read(stored, *names.wanted[key]) for key in expected}


def _stored_shape(shape: tuple[int, ...], weight: GraphWeight) -> list[int]:
    return list(reversed(shape)) if weight.transposed else list(shape)


def _read(stored: StoredWeights, name: str, weight: GraphWeight) -> np.ndarray:
    array = stored.read(name)
    return np.ascontiguousarray(array.T) if weight.transposed else array
