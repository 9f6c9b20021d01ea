"""Lets a signature that parses serialized ``tf.Example`` messages take the features in them instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_bundle.builders.keras.load.run_both import generated
from model_bundle.builders.keras.rewrite.example_features import Feature, origin_of, read_features
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.builders.tfhub.parameter_names import parameter_names
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

_PARSERS = ("ParseExample", "ParseExampleV2")
_OTHER_PARSERS = (
    "ParseSingleExample",
    "ParseSequenceExample",
    "ParseSequenceExampleV2",
    "ParseSingleSequenceExample",
)
_WAY_OUT = (
    "Export it with the features as inputs: build_raw_serving_input_receiver_fn, or a signature of your own."
)
# Largest difference relative to the largest value: the same operations in the same order.
_DIFFERENT = 1e-5


def with_features(function: ModuleFunction, where: str) -> tuple[ModuleFunction, tuple[str, ...]]:
    """Replaces an input of serialized messages by the features that the graph reads from them.

    Args:
        function: a signature.
        where: what to call the model in an error.

    Returns:
        The function itself if it parses no messages; else one with the same outputs that takes features, and
        notes for the user.

    Raises:
        SourceError: it parses messages in a way that is not supported.
    """
    if not any(spec.dtype.name == "string" for spec in function.inputs.values()):
        return function, ()
    tf = import_tensorflow()
    specs = {name: tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in function.inputs.items()}
    traced = tf.function(lambda **fed: function.call(**fed), autograph=False).get_concrete_function(**specs)
    graph = traced.graph.as_graph_def()
    inner = (node.op for one in graph.library.function for node in one.node_def)
    operations = {node.op for node in graph.node}.union(inner)
    if other := sorted(operations & set(_OTHER_PARSERS)):
        raise SourceError(
            f"{where} parses serialized messages one by one ({', '.join(other)}); supported is "
            f"tf.io.parse_example on all of them. {_WAY_OUT}"
        )
    if not operations & set(_PARSERS):
        return function, ()
    return _on_features(function, traced, where)


def _on_features(function: ModuleFunction, traced: Any, where: str) -> tuple[ModuleFunction, tuple[str, ...]]:
    tf = import_tensorflow()
    from tensorflow.python.framework import convert_to_constants as converter

    # Called functions are inlined; variables stay captured.
    graph_def = converter._run_inline_graph_optimization(traced, False, True)
    nodes = {node.name: node for node in graph_def.node}
    parsers = [node for node in graph_def.node if node.op in _PARSERS]
    messages = origin_of(nodes, parsers[0].input[0]) if len(parsers) == 1 else ""
    if messages not in function.inputs:
        raise SourceError(
            f"{where} parses serialized messages {_times(len(parsers))}; supported is one "
            f"tf.io.parse_example on an input as it is. {_WAY_OUT}"
        )
    split_types = [tf.as_dtype(number) for number in parsers[0].attr["ragged_split_types"].list.type]
    features = list(read_features(nodes, parsers[0], where))
    names = parameter_names(feature.key for feature in features)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    captures = {inner.name: outer for outer, inner in traced.graph.captures}
    others = [f"{name}:0" for name in function.inputs]
    feeds = [tensor for feature in features for tensor in feature.tensors]
    outputs = dict(zip(sorted(traced.structured_outputs), traced.outputs, strict=True))
    element = wrapped.graph.as_graph_element
    pruned = wrapped.prune(
        [element(name) for name in (*others, *feeds, *captures)],
        {key: element(tensor.name) for key, tensor in outputs.items()},
    )

    def call(**fed: Any) -> dict[str, Any]:
        split_type = split_types[0] if split_types else tf.int64
        rows = tf.shape(fed[names[features[0].key]])[:1]
        given = [tf.fill(rows, "") if name == messages else fed[name] for name in function.inputs]
        parsed = [part for one in features for part in one.parsed(fed[names[one.key]], split_type)]
        return dict(pruned(*given, *parsed, *captures.values()))

    left = {name: spec for name, spec in function.inputs.items() if name != messages}
    clash = sorted(left.keys() & set(names.values()))
    if clash:
        raise SourceError(f"{where} has both an input and a feature {clash[0]}. Export it again without one.")
    inputs = left | {names[feature.key]: feature.spec for feature in features}
    aliases = {old: new for old, new in names.items() if old != new}
    rewritten = ModuleFunction(function.name, inputs, call, aliases=aliases)
    if not left:
        _compare(function, rewritten, messages, {names[one.key]: one for one in features}, where)
    listed = ", ".join(names.values())
    return rewritten, (f"input {messages}: serialized tf.Example; its features are inputs here: {listed}",)


def _times(number: int) -> str:
    return {0: "one by one", 1: "that are no input"}.get(number, f"{number} times")


def _compare(
    function: ModuleFunction,
    rewritten: ModuleFunction,
    messages: str,
    features: Mapping[str, Feature],
    where: str,
) -> None:
    """Compares both functions on generated features, if the model takes these.

    Raises:
        SourceError: their results differ.
    """
    tf = import_tensorflow()
    arrays = {name: generated(feature.spec) for name, feature in features.items()}
    num_rows = min(map(len, arrays.values()))
    serialized = [
        _message(tf, {features[name].key: array[row] for name, array in arrays.items()})
        for row in range(num_rows)
    ]
    spec = function.inputs[messages]
    given = tf.reshape(tf.constant(serialized), [-1, 1] if spec.shape.rank == 2 else [-1])
    fed = {name: tf.constant(array[:num_rows], features[name].spec.dtype) for name, array in arrays.items()}
    try:
        expected, found = function.call(**{messages: given}), rewritten.call(**fed)
    except (tf.errors.OpError, ValueError):
        return  # such as ids of a small vocabulary; the golden texts come next
    for name, value in expected.items():
        one, other = value.numpy(), found[name].numpy()
        if one.dtype.kind != "f":
            same = np.array_equal(one, other)
        else:
            size = float(np.abs(one).max(initial=0.0)) or 1.0
            same = one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=_DIFFERENT * size))
        if not same:
            raise SourceError(
                f"{where}: output {name} differs between serialized messages and their features. Export it "
                "with the features as inputs."
            )


def _message(tf: Any, values: Mapping[str, np.ndarray]) -> bytes:
    """Returns a serialized ``tf.Example``."""
    made = {}
    for key, value in values.items():
        flat = np.ravel(value)
        if flat.dtype.kind in "OS":
            texts = [text if isinstance(text, bytes) else str(text).encode("utf-8") for text in flat.tolist()]
            made[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
        elif flat.dtype.kind == "f":
            made[key] = tf.train.Feature(float_list=tf.train.FloatList(value=flat))
        else:
            made[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=flat))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()  # type: ignore[no-any-return]
