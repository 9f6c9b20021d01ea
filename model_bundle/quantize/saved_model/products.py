"""Finds the matrix products of a graph whose second factor is a weight, and what surrounds them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import numpy as np

from model_bundle.quantize.saved_model.activations import find_activations
from model_bundle.quantize.saved_model.einsum import as_product
from model_bundle.quantize.saved_model.graph import ModelGraph
from model_bundle.quantize.saved_model.replay import tensor_name

# Smaller ones are faster in float, and change little.
MIN_SIDE = 64
_BATCHED = ("BatchMatMulV2", "BatchMatMulV3", "BatchMatMul")
_ADDING = ("BiasAdd", "AddV2", "Add")
# Parts of names that layers give to a product rather than to themselves.
_TAILS = frozenset({"MatMul", "Tensordot", "einsum", "Einsum", "BatchMatMul", "BatchMatMulV2"})


@dataclass(frozen=True)
class Product:
    """One product, with the bias and activation behind it. Tensors are named as in the graph.

    ``source``: the input, whose last ``contracted`` axes are summed over; ``root``: the tensor that it is
    after changes of shape. ``kernel``: float32[inputs,
    outputs], made from ``weight`` with its axes in ``order``. ``free``: the sizes of the last axes of the
    result. ``reshaped``: the tensor of its new shape, if a Reshape follows. ``bias``: float32[outputs].
    ``output``: the result, after bias and activation. ``activation``: as oneDNN calls it. ``inner``: the
    product whose activation's output is the input of this one, and of nothing else.
    """

    name: str
    source: str
    root: str
    contracted: int
    weight: str
    order: tuple[int, ...]
    free: tuple[int, ...]
    output: str
    kernel: np.ndarray = field(repr=False)
    reshaped: str | None = None
    bias: np.ndarray | None = field(default=None, repr=False)
    activation: str | None = None
    inner: str | None = None

    @property
    def entering(self) -> tuple[str, int]:
        """What products have in common that are rounded together: the input, as rows of so many numbers."""
        return self.root, len(self.kernel)


def find_products(graph: ModelGraph) -> dict[str, Product]:
    """Returns the products of at least 64 by 64 with constant weights, by name, in the graph's order."""
    found = list(_products(graph))
    weights = graph.values([product.weight for product in found])
    found = [_with_kernel(product, weights[product.weight]) for product in found]
    found = [product for product in found if min(product.kernel.shape) >= MIN_SIDE]
    found = [_with_bias(product, graph) for product in found]
    activations = find_activations(graph, [product.output for product in found])
    found = [
        replace(product, activation=kind, output=output)
        for product in found
        for kind, output in [activations.get(product.output, (None, product.output))]
    ]
    ends = {product.output for product in found}
    found = [replace(product, root=_root(graph, product.source, ends)) for product in found]
    names = _short_names([product.name for product in found])
    found = [replace(product, name=names[product.name]) for product in found]
    return {product.name: _with_inner(product, found, graph) for product in found}


def _products(graph: ModelGraph) -> Iterator[Product]:
    """Yields products as they are, without kernels."""
    for node in graph.order:
        if len(node.input) < 2 or not _is_float(node):
            continue
        source, weight = tensor_name(node.input[0]), tensor_name(node.input[1])
        if graph.is_constant(source) or not graph.is_constant(weight):
            continue
        order: tuple[int, ...] | None = None
        contracted = 1
        if node.op == "MatMul" and not node.attr["transpose_a"].b:
            order = (1, 0) if node.attr["transpose_b"].b else (0, 1)
        elif node.op in _BATCHED and not node.attr["adj_x"].b:
            order = (1, 0) if node.attr["adj_y"].b else (0, 1)
        elif node.op == "Einsum":
            plain = as_product(node.attr["equation"].s.decode())
            if plain is not None:
                order, contracted = plain
        if order is not None:
            none = np.zeros((0, 0), np.float32)
            yield Product(node.name, source, source, contracted, weight, order, (), f"{node.name}:0", none)


def _is_float(node: Any) -> bool:
    import tensorflow as tf

    return "T" in node.attr and node.attr["T"].type == tf.float32.as_datatype_enum


def _with_kernel(product: Product, weight: np.ndarray) -> Product:
    if weight.ndim != len(product.order):  # a matrix for each text
        return product
    turned = weight.transpose(product.order)
    free = turned.shape[product.contracted :]
    return replace(product, kernel=turned.reshape(-1, int(np.prod(free))), free=free)


def _with_bias(product: Product, graph: ModelGraph) -> Product:
    """Follows the result, while nothing else reads it, through changes of shape to the bias that is added."""
    output, reshaped = product.output, product.reshaped
    while True:
        readers = graph.readers(output)
        if len(readers) != 1 or graph.is_output(output):
            return product
        (node,) = readers
        if node.op in ("Identity", "Reshape") and tensor_name(node.input[0]) == output:
            output = f"{node.name}:0"
            reshaped = tensor_name(node.input[1]) if node.op == "Reshape" else reshaped
            if product.bias is not None:
                product = replace(product, output=output, reshaped=reshaped)
        elif node.op in _ADDING and product.bias is None:
            sources = [tensor_name(name) for name in node.input]
            other = sources[1] if sources[0] == output else sources[0]
            bias = graph.value(other) if graph.is_constant(other) else None
            if bias is None or not _fits(node, bias, product.free, is_reshaped=reshaped is not None):
                return product
            output = f"{node.name}:0"
            product = replace(product, bias=bias.reshape(-1), output=output, reshaped=reshaped)
        else:
            return product


def _fits(node: Any, bias: np.ndarray, free: Sequence[int], *, is_reshaped: bool) -> bool:
    """Whether a bias has one number for each column, and is added to it.

    Behind a Reshape, an addition of as many numbers as there are columns needs a last axis of that length.
    """
    shape = bias.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    # Asking a map for what it lacks would put it there.
    is_by_channel = "data_format" in node.attr and node.attr["data_format"].s == b"NCHW"
    return shape == tuple(free) and not is_by_channel and not (is_reshaped and len(free) > 1)


def _with_inner(product: Product, products: Sequence[Product], graph: ModelGraph) -> Product:
    """Finds the product whose activation's output this one takes, if nothing else needs the values."""
    by_output = {each.output: each for each in products if each.activation is not None}
    inner = by_output.get(product.root)
    if inner is None or inner.kernel.shape[1] != product.kernel.shape[0]:
        return product
    tensor = product.source
    while _only_reader(graph, tensor):
        if tensor == product.root:
            return replace(product, inner=inner.name)
        tensor = str(graph.passed(tensor))
    return product


def _root(graph: ModelGraph, tensor: str, ends: Collection[str]) -> str:
    """Returns the tensor that has the same values in the same order before it was given other shapes.

    That is at most one of ``ends``: what is before these is not computed in integers.
    """
    while tensor not in ends and (before := graph.passed(tensor)) is not None:
        tensor = before
    return tensor


def _only_reader(graph: ModelGraph, tensor: str) -> bool:
    """Whether one node takes the values of a tensor; others may ask for its shape."""
    readers = [node for node in graph.readers(tensor) if node.op != "Shape"]
    return len(readers) == 1 and not graph.is_output(tensor)


def _short_names(names: Sequence[str]) -> Mapping[str, str]:
    """Leaves out what all names begin with, and what names an operation rather than a layer.

    >>> _short_names(["call/model/layer_0/query/Tensordot/MatMul", "call/model/pooler/MatMul"])
    {'call/model/layer_0/query/Tensordot/MatMul': 'layer_0/query', 'call/model/pooler/MatMul': 'pooler'}
    """
    parts = [name.split("/") for name in names]
    columns = zip(*parts, strict=False) if len(parts) > 1 else ()
    num_common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    short = []
    for each in parts:
        kept = each[num_common:]
        while len(kept) > 1 and kept[-1].rstrip("_0123456789") in _TAILS:
            kept = kept[:-1]
        short.append("/".join(kept) or each[-1])
    return dict(zip(names, short if len(set(short)) == len(short) else names, strict=True))
