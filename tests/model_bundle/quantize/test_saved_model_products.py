"""Which products of a graph are found, and that what replaces them computes the same but for rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.quantize.choose import choose_product
from model_bundle.quantize.observed import Observed
from model_bundle.quantize.saved_model.einsum import as_product
from model_bundle.quantize.saved_model.graph import ModelGraph
from model_bundle.quantize.saved_model.model import QuantizableSavedModel
from model_bundle.quantize.saved_model.products import Product, find_products
from model_bundle.quantize.saved_model.rewrite import IntegerGraph
from tests.support.models.encoder_forms import FORMS, Form, make_encoder, traced

ACTIVATIONS = {"tensordot": "GeluExact", "batch": "GeluExact", "einsum": "GeluApproximate", "flat": "Relu"}


def some_ids() -> dict[str, Any]:
    random = np.random.default_rng(1)
    ids = random.integers(5, 80, (6, 9)).astype(np.int32)
    lengths = np.array([9, 4, 7, 1, 9, 5])
    mask = (np.arange(9) < lengths[:, np.newaxis]).astype(np.int32)
    return {"input_ids": tf.constant(ids * mask), "attention_mask": tf.constant(mask)}


def in_integers(graph: ModelGraph, products: dict[str, Product], fed: dict[str, Any], *, narrow: bool) -> Any:
    """Plans every product by its own inputs, and calls the graph."""

    def record(**inputs: Any) -> dict[str, Any]:
        replay = graph.replay(inputs)
        return {name: replay.tensor(product.root) for name, product in products.items()}

    plan = {}
    for name, rows in traced(record)(**fed).items():
        product = products[name]
        observed = Observed(len(product.kernel))
        observed.add(rows.numpy().reshape(-1, len(product.kernel)), 1000)
        plan[name] = choose_product(product.kernel, observed, 64 if narrow else 127, product.inner)
    first = {product.root: plan[name] for name, product in reversed(products.items())}
    for name, product in products.items():  # one rounding for all products of an input
        one = first[product.root]
        if one.smoothing is not None:
            kernel = product.kernel / one.smoothing[:, np.newaxis]
            plan[name] = type(one)(kernel, one.largest, one.error, one.smoothing)
    integer = IntegerGraph(graph, products, {name: plan[name] for name in products}, narrow=narrow)
    concrete = traced(lambda **inputs: integer.call(inputs))
    operations = [operation.type for operation in concrete.graph.get_operations()]
    # Nothing is computed twice: what is left in float are attention and the head.
    assert operations.count("_QuantizedMatMul") >= 7
    assert operations.count("MatMul") == 1
    assert operations.count("BatchMatMulV2") + operations.count("Einsum") == 2
    return concrete(**fed)


# Each form costs seconds.
@pytest.mark.parametrize(
    "form", ["tensordot", *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[1:])]
)
def test_products_are_found_however_they_are_written(form: Form) -> None:
    module, call = make_encoder(form)
    concrete = traced(call)
    graph = ModelGraph(concrete)
    products = find_products(graph)
    assert len(products) == 7  # the head of three classes is too small
    shapes = [product.kernel.shape for product in products.values()]
    assert sorted(shapes) == [(64, 64)] * 5 + [(64, 128), (128, 64)]
    (inner,) = [name for name, product in products.items() if product.kernel.shape == (64, 128)]
    (outer,) = [name for name, product in products.items() if product.kernel.shape == (128, 64)]
    assert products[inner].activation == ACTIVATIONS[form]
    assert products[outer].inner == inner
    assert [name for name, product in products.items() if product.inner is not None] == [outer]
    assert all(product.bias is not None for product in products.values())
    # Query, key and value have one input, however each of them reshapes it.
    roots = [product.root for product in products.values()]
    assert max(roots.count(root) for root in roots) == 3

    fed = some_ids()
    expected = concrete(**fed)["states"].numpy()[fed["attention_mask"].numpy() > 0]
    for narrow in (False, True):
        found = in_integers(graph, products, fed, narrow=narrow)["states"].numpy()
        found = found[fed["attention_mask"].numpy() > 0]
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = (found * expected).sum(axis=1) / norms
        assert 0.998 < cosines.min() < 1 - 1e-6, narrow
    del module


def products_of(function: Callable[..., dict[str, Any]]) -> dict[str, Product]:
    spec = tf.TensorSpec([None, 64], tf.float32, name="x")
    concrete = tf.function(function, autograph=False).get_concrete_function(x=spec)
    return find_products(ModelGraph(concrete))


@pytest.fixture(scope="module")
def kernel() -> Any:
    return tf.Variable(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))


def test_what_else_reads_a_result_is_respected(kernel: Any) -> None:
    def both(x: Any) -> dict[str, Any]:
        inner = tf.matmul(x, kernel)
        hidden = tf.nn.relu(inner)
        return {"out": tf.matmul(hidden, kernel) + inner, "hidden": hidden}

    products = products_of(both)
    assert [product.activation for product in products.values()] == [None, None]
    assert [product.inner for product in products.values()] == [None, None]
    assert [product.bias for product in products.values()] == [None, None]

    def output(x: Any) -> dict[str, Any]:
        hidden = tf.nn.relu(tf.matmul(x, kernel))
        return {"out": tf.matmul(hidden, kernel), "hidden": hidden}

    first, second = products_of(output).values()
    assert (first.activation, second.inner) == ("Relu", None)  # the hidden values are an output


def test_functions_that_are_no_known_activation_stay_as_they_are(kernel: Any) -> None:
    def swish(x: Any) -> dict[str, Any]:
        inner = tf.matmul(x, kernel)
        return {"out": tf.matmul(inner * tf.tanh(inner), kernel)}

    assert [product.activation for product in products_of(swish).values()] == [None, None]


def test_products_of_two_activations_loops_and_random_numbers_are_left(kernel: Any) -> None:
    def call(x: Any) -> dict[str, Any]:
        loop = tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, tf.matmul(y, kernel)), [0, x])[1]
        noise = tf.matmul(x, tf.random.normal([64, 64]))
        return {"out": tf.matmul(x, x, transpose_b=True), "loop": loop, "noise": noise}

    assert products_of(call) == {}


def test_transposed_and_computed_kernels_are_read(kernel: Any) -> None:
    def call(x: Any) -> dict[str, Any]:
        return {"out": tf.matmul(x, kernel, transpose_b=True), "half": tf.matmul(x, tf.transpose(kernel) / 2)}

    first, second = products_of(call).values()
    np.testing.assert_allclose(first.kernel, kernel.numpy().T)
    np.testing.assert_allclose(second.kernel, kernel.numpy().T / 2)


@pytest.mark.parametrize(
    "equation", ["abc,cde->abde", "abcd,cde->abe", "...x,xy->...y", "ab,cb->ac", "abcd,dce->abe"]
)
def test_an_equation_taken_for_a_product_is_one(equation: str) -> None:
    plain = as_product(equation)
    if equation == "abcd,dce->abe":
        assert plain == ((1, 0, 2), 2)
    assert plain is not None
    order, contracted = plain
    rows, weight = equation.split("->")[0].split(",")
    sizes = dict(zip("abcdexy", (2, 3, 4, 5, 6, 4, 5), strict=True))
    random = np.random.default_rng(0)
    left = random.normal(size=[2, 3] * rows.startswith("...") + [sizes[a] for a in rows.replace("...", "")])
    right = random.normal(size=[sizes[axis] for axis in weight])
    expected = np.einsum(equation, left, right)
    turned = right.transpose(order)
    flat = turned.reshape(int(np.prod(turned.shape[:contracted])), -1)
    np.testing.assert_allclose((left.reshape(-1, len(flat)) @ flat).reshape(expected.shape), expected)


@pytest.mark.parametrize(
    "equation", ["abcd,abed->abce", "ab,bc->ca", "ab,cd->abcd", "abc,bcd->abd", "aab,bc->aac"]
)
def test_other_equations_are_not(equation: str) -> None:
    assert as_product(equation) is None


def test_rows_of_other_lengths_are_rounded_apart_and_zeros_not_at_all(kernel: Any) -> None:
    wide = tf.Variable(np.random.default_rng(3).normal(size=(128, 64)).astype(np.float32))

    def call(x: Any) -> dict[str, Any]:
        pairs = tf.matmul(tf.reshape(x, [-1, 128]), wide)
        return {"each": tf.matmul(x, kernel), "pairs": pairs, "none": tf.matmul(x * 0.0, wide[64:])}

    spec = tf.TensorSpec([None, 64], tf.float32, name="x")
    concrete = tf.function(call, autograph=False).get_concrete_function(x=spec)
    graph = ModelGraph(concrete)
    products = find_products(graph)
    assert len({product.root for product in products.values()}) == 2
    x = np.random.default_rng(4).normal(size=(6, 64)).astype(np.float32)
    observed = {}
    for name, product in products.items():
        inputs = Observed(len(product.kernel))
        inputs.add(x.reshape(-1, len(product.kernel)) * (product.root == "x:0"), 100)
        observed[name] = inputs
    model = object.__new__(QuantizableSavedModel)
    model._products = products
    plan = model.plan(observed, 127)
    assert sorted(len(planned.kernel) for planned in plan.values()) == [64, 128]  # not what sees zeros
    integer = IntegerGraph(graph, products, plan, narrow=False)
    found = tf.function(lambda x: integer.call({"x": x}), autograph=False)(tf.constant(x))
    for name, expected in concrete(x=tf.constant(x)).items():
        np.testing.assert_allclose(found[name], expected, atol=0.5)
        assert (name == "none") == bool(np.all(found[name] == expected))


def test_what_waits_for_a_branch_is_no_part_of_it(kernel: Any) -> None:
    other = tf.Variable(np.random.default_rng(5).normal(size=(64, 64)).astype(np.float32))

    def call(x: Any) -> dict[str, Any]:
        branch = tf.cond(tf.shape(x)[0] > 5, lambda: tf.matmul(x, other), lambda: tf.matmul(x, kernel))
        x = x + tf.matmul(x, kernel)
        return {"out": tf.matmul(x * 0.5 + branch, other)}

    first, second = products_of(call).values()  # those inside of branches stay as they are
    np.testing.assert_allclose([first.kernel, second.kernel], [kernel.numpy(), other.numpy()])
