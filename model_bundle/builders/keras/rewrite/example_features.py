"""The features that a parser of serialized ``tf.Example`` messages reads, and what it returns for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

_PASSING = ("Identity", "StopGradient", "EnsureShape", "Reshape")


@dataclass(frozen=True)
class Feature:
    """A feature of the messages, and the tensors that it was parsed to, by name in the graph.

    ``kind``: ``dense`` has one tensor, ``sparse`` indices, values and shape, ``ragged`` values and splits.
    """

    key: str
    kind: str
    spec: Any
    tensors: tuple[str, ...]

    def parsed(self, value: Any, split_type: Any) -> list[Any]:
        """Returns what the parser returns where every message has as many values as ``value`` has columns."""
        tf = import_tensorflow()
        if self.kind == "dense":
            return [value]
        rows, columns = tf.unstack(tf.shape(value, tf.int64))
        if self.kind == "ragged":
            splits = tf.range(rows + 1) * columns
            return [tf.reshape(value, [-1]), tf.cast(splits, split_type)]
        places = tf.range(rows * columns)
        indices = tf.stack([places // columns, places % columns], axis=1)
        return [indices, tf.reshape(value, [-1]), tf.stack([rows, columns])]


def read_features(nodes: Mapping[str, Any], parser: Any, where: str) -> Iterator[Feature]:
    """Yields the features of a parser in the order of its outputs.

    Args:
        nodes: of the graph, by name; called functions are inlined.
        parser: the node of ``ParseExample`` or ``ParseExampleV2``.
        where: what to call the model in an error.

    Raises:
        SourceError: the keys of its features are no constants.
    """
    tf = import_tensorflow()
    attributes = parser.attr
    dense_types = attributes["Tdense"].list.type
    sparse_types = attributes["sparse_types"].list.type
    ragged_types = attributes["ragged_value_types"].list.type
    keys = _keys(nodes, parser, len(sparse_types), len(dense_types), where)
    sparse, dense, ragged = (keys[kind] for kind in ("sparse", "dense", "ragged"))
    after = 3 * len(sparse)
    for index, (key, kind) in enumerate(zip(sparse, sparse_types, strict=True)):
        places = (index, index + len(sparse), index + 2 * len(sparse))
        yield _feature(tf, parser, key, "sparse", [None], kind, places)
    shapes = attributes["dense_shapes"].list.shape
    for index, (key, kind, shape) in enumerate(zip(dense, dense_types, shapes, strict=True)):
        sizes = tf.TensorShape(shape).as_list()
        yield _feature(tf, parser, key, "dense", sizes, kind, (after + index,))
    after += len(dense)
    for index, (key, kind) in enumerate(zip(ragged, ragged_types, strict=True)):
        pair = (after + index, after + len(ragged) + index)
        yield _feature(tf, parser, key, "ragged", [None], kind, pair)


def _feature(
    tf: Any, parser: Any, key: str, kind: str, sizes: list[int | None], dtype: int, places: tuple[int, ...]
) -> Feature:
    spec = tf.TensorSpec([None, *sizes], tf.as_dtype(dtype), name=None)
    return Feature(key, kind, spec, tuple(f"{parser.name}:{place}" for place in places))


def _keys(
    nodes: Mapping[str, Any], parser: Any, num_sparse: int, num_dense: int, where: str
) -> dict[str, list[str]]:
    """Returns the keys of features by kind; each is a constant of its own, or all of a kind are."""
    tf = import_tensorflow()

    def constants(names: Any) -> list[str]:
        found = []
        for name in names:
            node = nodes[origin_of(nodes, name)]
            if node.op != "Const":
                raise SourceError(
                    f"{where} computes the keys of its features. Export it with features as inputs."
                )
            found += np.ravel(tf.make_ndarray(node.attr["value"].tensor)).tolist()
        return [key.decode("utf-8", "backslashreplace") for key in found]

    given = list(parser.input)[2:]
    if parser.op == "ParseExampleV2":
        kinds = zip(("sparse", "dense", "ragged"), given, strict=False)
        return {kind: constants([name]) for kind, name in kinds}
    dense = given[num_sparse : num_sparse + num_dense]
    return {"sparse": constants(given[:num_sparse]), "dense": constants(dense), "ragged": []}


def origin_of(nodes: Mapping[str, Any], tensor: str) -> str:
    """Returns the node that computed a value, which others pass on."""
    name = tensor.partition(":")[0]
    while name in nodes and nodes[name].op in _PASSING and nodes[name].input:
        name = nodes[name].input[0].partition(":")[0]
    return name
