"""Calls of TensorFlow as people write them between layers of Keras 2, which saves each as a layer.

Keras 2 turns a call on a layer's output into a layer that stores the function's name; a file that names
another function than one of these would run it.
"""

# ruff: noqa: ARG005  # every call has one form, operators too

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Calls = Mapping[str, Callable[[Any, Any], Any]]

# ``tf`` and x, float32[texts, 4, 4]. A name is the one that Keras stores.
_NUMBERS: Calls = {
    "__operators__.add": lambda tf, x: x + x,
    "__operators__.eq": lambda tf, x: x == x,
    "__operators__.getitem": lambda tf, x: x[:, 0],
    "__operators__.ne": lambda tf, x: x != x,
    "argsort": lambda tf, x: tf.argsort(x),
    "broadcast_to": lambda tf, x: tf.broadcast_to(x[:1], (3, 4, 4)),
    "cast": lambda tf, x: tf.cast(x, "int32"),
    "clip_by_norm": lambda tf, x: tf.clip_by_norm(x, 1.0),
    "clip_by_value": lambda tf, x: tf.clip_by_value(x, 0, 1),
    "compat.v1.boolean_mask": lambda tf, x: tf.boolean_mask(x, x[:, 0, 0] > 0),
    "compat.v1.floor_div": lambda tf, x: x // 2,
    "compat.v1.gather": lambda tf, x: tf.compat.v1.gather(x, [0], axis=1),
    "compat.v1.gather_nd": lambda tf, x: tf.gather_nd(x, [[0, 0]], batch_dims=0),
    "compat.v1.math.scalar_mul": lambda tf, x: tf.scalar_mul(2.0, x),
    "compat.v1.norm": lambda tf, x: tf.norm(x),
    "compat.v1.pad": lambda tf, x: tf.pad(x, [[0, 0], [0, 1], [0, 0]]),
    "compat.v1.shape": lambda tf, x: tf.compat.v1.shape(x),
    "compat.v1.size": lambda tf, x: tf.compat.v1.size(x),
    "compat.v1.squeeze": lambda tf, x: tf.compat.v1.squeeze(x, axis=[0]),
    "compat.v1.transpose": lambda tf, x: tf.compat.v1.transpose(x),
    "concat": lambda tf, x: tf.concat([x, x], 1),
    "convert_to_tensor": lambda tf, x: tf.convert_to_tensor(x),
    "einsum": lambda tf, x: tf.einsum("bij,bjk->bik", x, x),
    "expand_dims": lambda tf, x: tf.expand_dims(x, 1),
    "fill": lambda tf, x: tf.fill(tf.shape(x), 1.0),
    "identity": lambda tf, x: tf.identity(x),
    "linalg.band_part": lambda tf, x: tf.linalg.band_part(x, 0, -1),
    "linalg.diag": lambda tf, x: tf.linalg.diag(x),
    "linalg.diag_part": lambda tf, x: tf.linalg.diag_part(x),
    "linalg.matmul": lambda tf, x: tf.matmul(x, x),
    "linalg.matrix_transpose": lambda tf, x: tf.linalg.matrix_transpose(x),
    "math.abs": lambda tf, x: abs(x),
    "math.add": lambda tf, x: tf.add(x, x),
    "math.add_n": lambda tf, x: tf.add_n([x, x]),
    "math.argmax": lambda tf, x: tf.argmax(x, -1),
    "math.argmin": lambda tf, x: tf.argmin(x, -1),
    "math.ceil": lambda tf, x: tf.math.ceil(x),
    "math.cos": lambda tf, x: tf.cos(x),
    "math.count_nonzero": lambda tf, x: tf.math.count_nonzero(x),
    "math.cumprod": lambda tf, x: tf.math.cumprod(x),
    "math.cumsum": lambda tf, x: tf.math.cumsum(x),
    "math.divide_no_nan": lambda tf, x: tf.math.divide_no_nan(x, x),
    "math.equal": lambda tf, x: tf.equal(x, x),
    "math.erf": lambda tf, x: tf.math.erf(x),
    "math.exp": lambda tf, x: tf.exp(x),
    "math.floor": lambda tf, x: tf.floor(x),
    "math.floormod": lambda tf, x: x % 2,
    "math.greater": lambda tf, x: x > 0,
    "math.greater_equal": lambda tf, x: x >= 0,
    "math.is_finite": lambda tf, x: tf.math.is_finite(x),
    "math.is_nan": lambda tf, x: tf.math.is_nan(x),
    "math.l2_normalize": lambda tf, x: tf.math.l2_normalize(x, -1),
    "math.less": lambda tf, x: x < 0,
    "math.less_equal": lambda tf, x: x <= 0,
    "math.log": lambda tf, x: tf.math.log(x),
    "math.log1p": lambda tf, x: tf.math.log1p(x),
    "math.logical_and": lambda tf, x: (x > 0) & (x < 1),
    "math.logical_not": lambda tf, x: ~(x > 0),
    "math.logical_or": lambda tf, x: (x > 0) | (x < 1),
    "math.maximum": lambda tf, x: tf.maximum(x, 0),
    "math.minimum": lambda tf, x: tf.minimum(x, 0),
    "math.multiply": lambda tf, x: x * 2,
    "math.multiply_no_nan": lambda tf, x: tf.math.multiply_no_nan(x, x),
    "math.negative": lambda tf, x: -x,
    "math.not_equal": lambda tf, x: tf.not_equal(x, x),
    "math.pow": lambda tf, x: x**2,
    "math.reciprocal": lambda tf, x: tf.math.reciprocal(x),
    "math.reciprocal_no_nan": lambda tf, x: tf.math.reciprocal_no_nan(x),
    "math.reduce_all": lambda tf, x: tf.reduce_all(x > 0),
    "math.reduce_any": lambda tf, x: tf.reduce_any(x > 0),
    "math.reduce_logsumexp": lambda tf, x: tf.reduce_logsumexp(x),
    "math.reduce_max": lambda tf, x: tf.reduce_max(x, 1),
    "math.reduce_mean": lambda tf, x: tf.reduce_mean(x, 1),
    "math.reduce_min": lambda tf, x: tf.reduce_min(x, 1),
    "math.reduce_prod": lambda tf, x: tf.reduce_prod(x, 1),
    "math.reduce_std": lambda tf, x: tf.math.reduce_std(x, 1),
    "math.reduce_sum": lambda tf, x: tf.reduce_sum(x, 1),
    "math.reduce_variance": lambda tf, x: tf.math.reduce_variance(x, 1),
    "math.round": lambda tf, x: tf.round(x),
    "math.rsqrt": lambda tf, x: tf.math.rsqrt(x),
    "math.sigmoid": lambda tf, x: tf.sigmoid(x),
    "math.sign": lambda tf, x: tf.sign(x),
    "math.sin": lambda tf, x: tf.sin(x),
    "math.softplus": lambda tf, x: tf.math.softplus(x),
    "math.sqrt": lambda tf, x: tf.sqrt(x),
    "math.square": lambda tf, x: tf.square(x),
    "math.squared_difference": lambda tf, x: tf.math.squared_difference(x, x),
    "math.subtract": lambda tf, x: x - x,
    "math.tanh": lambda tf, x: tf.tanh(x),
    "math.top_k": lambda tf, x: tf.math.top_k(x, 2)[0],
    "math.truediv": lambda tf, x: x / 2,
    "nn.avg_pool1d": lambda tf, x: tf.nn.avg_pool1d(x, 2, 2, "SAME"),
    "nn.bias_add": lambda tf, x: tf.nn.bias_add(x, [1.0, 2.0, 3.0, 4.0]),
    "nn.elu": lambda tf, x: tf.nn.elu(x),
    "nn.gelu": lambda tf, x: tf.nn.gelu(x),
    "nn.leaky_relu": lambda tf, x: tf.nn.leaky_relu(x),
    "nn.log_softmax": lambda tf, x: tf.nn.log_softmax(x),
    "nn.max_pool1d": lambda tf, x: tf.nn.max_pool1d(x, 2, 2, "SAME"),
    "nn.relu": lambda tf, x: tf.nn.relu(x),
    "nn.relu6": lambda tf, x: tf.nn.relu6(x),
    "nn.selu": lambda tf, x: tf.nn.selu(x),
    "nn.silu": lambda tf, x: tf.nn.silu(x),
    "nn.softmax": lambda tf, x: tf.nn.softmax(x),
    "nn.softsign": lambda tf, x: tf.nn.softsign(x),
    "one_hot": lambda tf, x: tf.one_hot(tf.cast(x, "int32"), 3),
    "ones_like": lambda tf, x: tf.ones_like(x),
    "range": lambda tf, x: tf.range(tf.shape(x)[1]),
    "rank": lambda tf, x: tf.rank(x),
    "repeat": lambda tf, x: tf.repeat(x, 2, axis=1),
    "reshape": lambda tf, x: tf.reshape(x, (-1, 16)),
    "reverse": lambda tf, x: tf.reverse(x, [1]),
    "roll": lambda tf, x: tf.roll(x, 1, 1),
    "searchsorted": lambda tf, x: tf.searchsorted(x, x),
    "sequence_mask": lambda tf, x: tf.sequence_mask(tf.cast(x[:, 0, 0], "int32"), 5),
    "slice": lambda tf, x: tf.slice(x, [0, 0, 0], [-1, 2, 2]),
    "sort": lambda tf, x: tf.sort(x),
    "split": lambda tf, x: tf.split(x, 2, axis=1)[0],
    "stack": lambda tf, x: tf.stack([x, x], 1),
    "stop_gradient": lambda tf, x: tf.stop_gradient(x),
    "tensor_scatter_nd_update": lambda tf, x: tf.tensor_scatter_nd_update(x, [[0]], x[:1]),
    "tensordot": lambda tf, x: tf.tensordot(x, x, 1),
    "tile": lambda tf, x: tf.tile(x, [1, 2, 1]),
    "unstack": lambda tf, x: tf.unstack(x, axis=1)[0],
    "where": lambda tf, x: tf.where(x > 0, x, x),
    "zeros_like": lambda tf, x: tf.zeros_like(x),
}
# x, string[texts].
_TEXTS: Calls = {
    "compat.v1.strings.length": lambda tf, x: tf.compat.v1.strings.length(x),
    "strings.as_string": lambda tf, x: tf.strings.as_string(tf.strings.length(x)),
    "strings.bytes_split": lambda tf, x: tf.strings.bytes_split(x),
    "strings.join": lambda tf, x: tf.strings.join([x, x], " "),
    "strings.length": lambda tf, x: tf.strings.length(x),
    "strings.lower": lambda tf, x: tf.strings.lower(x),
    "strings.reduce_join": lambda tf, x: tf.strings.reduce_join(x),
    "strings.regex_full_match": lambda tf, x: tf.strings.regex_full_match(x, "a"),
    "strings.regex_replace": lambda tf, x: tf.strings.regex_replace(x, "a", "b"),
    "strings.split": lambda tf, x: tf.strings.split(x),
    "strings.strip": lambda tf, x: tf.strings.strip(x),
    "strings.substr": lambda tf, x: tf.strings.substr(x, 0, 3),
    "strings.to_hash_bucket_fast": lambda tf, x: tf.strings.to_hash_bucket_fast(x, 10),
    "strings.to_hash_bucket_strong": lambda tf, x: tf.strings.to_hash_bucket_strong(x, 10, [1, 2]),
    "strings.to_number": lambda tf, x: tf.strings.to_number(x),
    "strings.unicode_decode": lambda tf, x: tf.strings.unicode_decode(x, "UTF-8"),
    "strings.unicode_split": lambda tf, x: tf.strings.unicode_split(x, "UTF-8"),
    "strings.upper": lambda tf, x: tf.strings.upper(x),
}


def stored_functions() -> dict[str, set[str]]:
    """Returns what Keras 2 stores for the call of each name: functions, and methods of its own tensors."""
    import json

    import tensorflow as tf

    found = {}
    for calls, spec in ((_NUMBERS, {"shape": (4, 4)}), (_TEXTS, {"shape": (), "dtype": "string"})):
        for name, call in calls.items():
            start = tf.keras.Input(**spec)
            config = json.loads(tf.keras.Model(start, call(tf, start)).to_json())
            layers = [layer["config"] for layer in config["config"]["layers"]]
            found[name] = {layer["function"] for layer in layers if "function" in layer}
    return found


def public_names() -> dict[str, set[str]]:
    """Returns the names in the public modules of ``tf.keras`` that a file may refer to, by kind."""
    import inspect

    import tensorflow as tf

    keras = tf.keras
    kinds = {
        "initializers": keras.initializers,
        "regularizers": keras.regularizers,
        "constraints": keras.constraints,
        "activations": keras.activations,
    }
    found = {kind: {name for name in dir(module) if name[0] != "_"} for kind, module in kinds.items()}
    layers = vars(keras.layers).items()
    found["layers"] = {
        name for name, value in layers if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
    }
    return found


def stored_operations(module: str) -> dict[str, str]:
    """Returns the classes that Keras 3 stores for calls of its public functions, each with the function.

    Args:
        module: of ``keras.ops``. It is read, not imported.
    """
    import ast
    from importlib.util import find_spec

    (folder,) = find_spec("keras").submodule_search_locations  # type: ignore[union-attr,misc]
    parts = ast.parse(Path(folder, "src", "ops", f"{module}.py").read_text("utf-8")).body
    operations = {"Operation"}
    for part in parts:
        if isinstance(part, ast.ClassDef) and operations & set(map(ast.unparse, part.bases)):
            operations.add(part.name)
    public = [
        part
        for part in parts
        if isinstance(part, ast.FunctionDef)
        and "keras_export" in "".join(map(ast.unparse, part.decorator_list))
    ]
    return {
        call.func.id: function.name
        for function in public
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in operations
    }
