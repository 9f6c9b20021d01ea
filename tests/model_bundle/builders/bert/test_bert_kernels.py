"""What TensorFlow makes of the encoder's graph: the kernels that its spelling is chosen for.

A spelling that is no longer recognised gives the same vectors, only slower; nothing else would tell.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.bert.source import BertOptions, read_bert_source
from tests.conftest import DATA_DIR


def kernels(model: str, dtype: tf.DType, *, frozen: bool = False) -> tuple[Counter[str], int]:
    """Counts the operations that run for the last layer's states; gives the number of layers, too.

    With ``frozen``, weights are constants as in a loaded bundle: TensorFlow then removes what adds zeros.
    """
    source = read_bert_source(str(DATA_DIR / model), BertOptions()).source
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        encoder = source.family.graph()(source.config, source.weights, "test")
        if frozen:
            stored = encoder._stored(source.weights)
            encoder._variables = {name: tf.constant(value) for name, value in stored.items()}
        ids, mask = (v1.placeholder(tf.int32, [None, None]) for _ in range(2))
        states = encoder.encode(ids, mask, dtype)[-1]
        session.run(v1.global_variables_initializer())
        metadata = v1.RunMetadata()
        options = v1.RunOptions(output_partition_graphs=True)
        ones = np.ones((4, 9), np.int32)
        session.run(states, {ids: ones, mask: ones}, options=options, run_metadata=metadata)
    found = Counter(node.op for graph in metadata.partition_graphs for node in graph.node)
    return found, source.config.num_layers


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("tiny_bert", tf.float32),
        ("tiny_bert", tf.bfloat16),
        ("families/mpnet", tf.float32),
        ("families/mpnet", tf.bfloat16),
        ("families/albert", tf.float32),
    ],
)
def test_what_can_be_fused_is_fused(model: str, dtype: tf.DType) -> None:
    found, num_layers = kernels(model, dtype)
    if not any(name.startswith("_Mkl") for name in found):
        pytest.skip("this TensorFlow runs without oneDNN")
    is_mpnet, is_projected = "mpnet" in model, "albert" in model
    assert found["_MklFusedBatchMatMulV2"] == num_layers  # scores, scaled and masked
    assert found["_MklLayerNorm"] == 2 * num_layers + 1
    assert found["_MklNativeFusedMatMul"] == 4 * num_layers + is_projected  # bias, GELU and residual included
    assert found["_MklSoftmax"] == num_layers
    # The embeddings and, of MPNet, ids of positions, distances and the bias of all layers; none on states.
    assert found["AddV2"] == (4 if is_mpnet else 2)
    assert is_mpnet or found["Mul"] <= 1  # the mask


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize(
    ("model", "norms", "products", "batched", "multiplied"),
    [
        # Queries and keys apart from values, and two products before the third of the dense layers. A layer
        # multiplies what is turned and what is gated.
        ("encoders/modernbert", 2, 6, 1, 2),
        # Scores of contents with positions, and of positions with contents.
        ("encoders/deberta", 2, 4, 3, 0),
    ],
)
def test_rotary_and_relative_positions_leave_the_rest_fused(
    model: str, norms: int, products: int, batched: int, multiplied: int, dtype: tf.DType
) -> None:
    found, num_layers = kernels(model, dtype, frozen=True)
    if not any(name.startswith("_Mkl") for name in found):
        pytest.skip("this TensorFlow runs without oneDNN")
    assert found["_MklFusedBatchMatMulV2"] == found["_MklSoftmax"] == num_layers
    assert found["_MklBatchMatMulV2"] == batched * num_layers
    assert found["_MklLayerNorm"] == norms * num_layers + 1
    assert found["_MklNativeFusedMatMul"] == products * num_layers
    assert not found["Erfc"]  # GELU is in its product
    assert (
        not multiplied or found["Mul"] <= multiplied * num_layers + 3
    )  # angles, of either kind of layer, and the mask
