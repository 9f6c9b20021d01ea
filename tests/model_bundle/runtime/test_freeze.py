"""A function on constants: what becomes one, that it is fused, its cost, what happens where it is wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.freeze import freeze as freeze_module
from model_bundle.runtime.freeze.freeze import CannotFreezeError, freeze
from model_bundle.runtime.freeze.optimize import _Skeleton
from model_bundle.runtime.freeze.weights import Weights
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from tests.support.runs.jobs import PROJECT

IDS = tf.constant([3, 0, 7, 7], tf.int32)


class Layer(tf.Module):
    """Rows of a table through a matrix that is large enough to be left out of the graph at first."""

    def __init__(self, change: Callable[[Any], Any] = tf.identity) -> None:
        super().__init__()
        random = np.random.default_rng(5)
        self.table = tf.Variable(random.standard_normal((10, 256), np.float32))
        self.weight = tf.Variable(random.standard_normal((256, 256), np.float32))
        self.bias = tf.Variable(random.standard_normal(256, np.float32))
        self._change = change

    def function(self) -> Any:
        @tf.function(autograph=False)
        def call(**inputs: Any) -> dict[str, Any]:
            product = tf.matmul(tf.gather(self.table, inputs["ids"]), self._change(self.weight))
            return {"states": tf.nn.gelu(tf.nn.bias_add(product, self.bias), approximate=False)}

        return call.get_concrete_function(ids=tf.TensorSpec([None], tf.int32, name="ids"))


@pytest.mark.parametrize("optimize_first", [True, False])
def test_constants_give_what_variables_gave(optimize_first: bool) -> None:
    layer = Layer()
    concrete = layer.function()
    expected = concrete(ids=IDS)["states"]
    frozen = freeze(concrete, optimize_first=optimize_first)
    np.testing.assert_allclose(frozen.call({"ids": IDS})["states"], expected, atol=1e-4)
    np.testing.assert_allclose(frozen.call({"ids": IDS[:1]})["states"], expected[:1], atol=1e-4)


@pytest.mark.parametrize("optimize_first", [True, False])
def test_what_became_a_constant_is_freed_and_nothing_else(optimize_first: bool) -> None:
    layer = Layer()
    concrete = layer.function()
    expected = concrete(ids=IDS)["states"]
    frozen = freeze(concrete, optimize_first=optimize_first)
    frozen.release_variables()
    sizes = [int(tf.size(variable.read_value())) for variable in (layer.table, layer.weight, layer.bias)]
    assert sizes == [2560, 0, 0]
    np.testing.assert_allclose(frozen.call({"ids": IDS})["states"], expected, atol=1e-4)


def test_a_variable_that_is_read_in_another_way_too_is_kept() -> None:
    layer = Layer()
    layer.table = layer.weight  # rows are gathered of what is multiplied with
    frozen = freeze(layer.function(), optimize_first=True)
    frozen.release_variables()
    assert int(tf.size(layer.weight.read_value())) == 256 * 256
    assert int(tf.size(layer.bias.read_value())) == 0


def test_what_is_computed_of_weights_alone_is_left_to_tensorflow() -> None:
    """It would be computed at every call, where TensorFlow does it once."""
    layer = Layer(tf.square)
    concrete = layer.function()
    with pytest.raises(CannotFreezeError, match=r"\(Square\) is computed from weights alone"):
        freeze(concrete, optimize_first=True)
    frozen = freeze(concrete)
    np.testing.assert_allclose(
        frozen.call({"ids": IDS})["states"], concrete(ids=IDS)["states"], rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_an_encoder_is_fused_before_its_weights_are_there(dtype: tf.DType) -> None:
    config = BertConfig(
        num_layers=2, num_heads=4, dim=256, inner_dim=512, vocab_size=50, max_positions=32, num_types=2,
        norm_epsilon=1e-12,
    )  # fmt: skip
    random = np.random.default_rng(1)
    shapes = weight_shapes(config)
    encoder = BertEncoder(
        config, {n: random.standard_normal(s).astype(np.float32) for n, s in shapes.items()}, ""
    )

    @tf.function(autograph=False)
    def call(**inputs: Any) -> dict[str, Any]:
        return {"states": encoder.encode(inputs["ids"], inputs["mask"], dtype)[-1]}

    specs = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in ("ids", "mask")}
    concrete = call.get_concrete_function(**specs)
    skeleton = _Skeleton(Weights(concrete), concrete.inputs[:2])
    found = Counter(node.op for node in skeleton.optimized().node)
    if "_MklLayerNorm" not in found:
        pytest.skip("this TensorFlow runs without oneDNN")
    assert found["_MklLayerNorm"] == 5
    assert found["_MklFusedBatchMatMulV2"] == 2
    assert found["_FusedMatMul"] == 8
    assert len(skeleton.large) >= 8


@pytest.mark.slow
def test_the_first_run_does_not_copy_weights_time_and_again() -> None:
    """Fifteen times the weights without optimising first, six or seven with it."""
    code = """
        from model_bundle.runtime.tensorflow_setup import import_tensorflow
        tf = import_tensorflow(2)
        from model_bundle.runtime.freeze.freeze import freeze
        from model_bundle.base.machine import peak_memory_bytes
        weights = [tf.Variable(tf.random.normal([2048, 2048])) for _ in range(4)]

        @tf.function(autograph=False)
        def call(**inputs):
            sums = [tf.reduce_sum(tf.matmul(inputs["x"], weight)) for weight in weights]
            return {"sum": tf.add_n(sums)}

        concrete = call.get_concrete_function(x=tf.TensorSpec([None, 2048], tf.float32, name="x"))
        before = peak_memory_bytes()
        frozen = freeze(concrete, optimize_first=True)
        frozen.release_variables()
        frozen.call({"x": tf.ones([2, 2048])})
        print((peak_memory_bytes() - before) / (4 * 2048 * 2048 * 4))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) < 9


def wrong(build: Callable[..., Any]) -> Callable[..., Any]:
    """Builds a call that is off by a little."""

    def built(*args: Any) -> Any:
        call = build(*args)

        def off(inputs: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value + 0.5 for name, value in call(inputs).items()}

        return off

    return built


def test_a_graph_optimised_wrongly_is_not_used(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Encoder(tiny_bundle).encode(["a cat sat", "a mat"])
    monkeypatch.setattr(freeze_module, "build_optimized", wrong(freeze_module.build_optimized))
    encoder = Encoder(tiny_bundle)
    assert encoder.runtime.unfrozen_reason is None
    np.testing.assert_allclose(encoder.encode(["a cat sat", "a mat"]), expected, atol=1e-6)
    monkeypatch.setattr(freeze_module, "_rebuild", wrong(freeze_module._rebuild))
    encoder = Encoder(tiny_bundle)
    assert encoder.runtime.unfrozen_reason is not None
    assert encoder.runtime.unfrozen_reason.startswith("constants were tried: ")
    np.testing.assert_allclose(encoder.encode(["a cat sat", "a mat"]), expected, atol=1e-6)


def test_signatures_are_there_if_they_are_kept(tiny_bundle: Path) -> None:
    bundle, request = ModelBundle.open(tiny_bundle), Encoder(tiny_bundle).request
    with pytest.raises(RuntimeError, match="keep_signatures=True"):
        TensorFlowRuntime(bundle, request).signature("default")
    runtime = TensorFlowRuntime(bundle, request, keep_signatures=True)
    signature = runtime.signature(bundle.manifest.signature)
    ones = tf.ones([1, 3], tf.int32)
    inputs = {name: tf.cast(ones, spec.dtype) for name, spec in bundle.manifest.inputs.items()}
    assert all(np.isfinite(value).all() for value in signature(**inputs).values())
