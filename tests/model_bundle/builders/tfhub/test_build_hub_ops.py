"""Operations that TensorFlow alone does not have: brought along where they are known, named where not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from model_bundle.builders.tfhub.build import build_hub_bundle
from model_bundle.builders.tfhub.load import register_ops
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.graph_scan.allowed_operations import TEXT_OPS
from model_bundle.errors import MissingExtraError, SourceError
from model_bundle.inference.encoder import Encoder
from tests.support.models.hub_modules import Toy, save_call, save_named

PROJECT = Path(__file__).parents[4]
TEXTS = ["the cat sat", "Dogs run!"]


IN_A_FRESH_PROCESS = """
import sys
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session
from model_bundle import Encoder
def names():
    ops = op_def_pb2.OpList()
    ops.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {op.name for op in ops.op}
before = names()
print(Encoder(sys.argv[1]).encode(sys.argv[2:])[1, 0])
print(*names() - before)
"""


@pytest.fixture(scope="module")
def text_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module whose text is made lower case by tensorflow_text."""
    tensorflow_text = pytest.importorskip("tensorflow_text", reason="the text extra is not installed")
    module = Toy()

    def call(inputs: Any) -> dict[str, Any]:
        return {"default": module.mean(tensorflow_text.case_fold_utf8(inputs))}

    return save_call(tmp_path_factory.mktemp("hub") / "module", module, call)


@pytest.fixture(scope="module")
def text_bundle_of_hub(text_module: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    output = tmp_path_factory.mktemp("bundles") / "text"
    return build_hub_bundle(str(text_module), HubChoices(), output).bundle


def test_tensorflow_text_is_recorded_and_imported_wherever_the_bundle_is(
    text_bundle_of_hub: ModelBundle,
) -> None:
    assert text_bundle_of_hub.manifest.custom_ops == ("tensorflow_text",)
    found = Encoder(text_bundle_of_hub).encode(TEXTS)
    np.testing.assert_allclose(found, Toy().mean(tf.constant(["the cat sat", "dogs run!"])), atol=1e-6)
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, str(text_bundle_of_hub.path), *TEXTS]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    number, registered = done.stdout.splitlines()
    assert float(number) == pytest.approx(found[1, 0], abs=1e-6)
    # What the import brought is what the builder takes for this package's.
    assert {name for name in registered.split() if not name.startswith("TFText>")} == TEXT_OPS


def test_a_missing_extra_is_named(
    text_module: Path, text_bundle_of_hub: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)  # what Python takes as "is not there"
    with pytest.raises(MissingExtraError, match=r'module needs .*pip install "beam-embedding-jobs\[text\]"'):
        build_hub_bundle(str(text_module), HubChoices(), tmp_path / "other")
    with pytest.raises(MissingExtraError, match="operations of tensorflow_text, which cannot be imported"):
        Encoder(text_bundle_of_hub)


def test_unknown_operations_are_listed(tmp_path: Path) -> None:
    module = save_named(tmp_path / "module")
    path = module / "saved_model.pb"
    content = saved_model_pb2.SavedModel()
    content.ParseFromString(path.read_bytes())
    for function in content.meta_graphs[0].graph_def.library.function:  # a nested one is enough
        for node in function.node_def:
            node.op = {"StringToHashBucketFast": "FancyHash"}.get(node.op, node.op)
    path.write_bytes(content.SerializeToString())
    with pytest.raises(SourceError, match=r"uses 1 operations .*: FancyHash. They come from a library"):
        build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")


def test_plain_graphs_need_nothing_and_functions_are_no_operations(tmp_path: Path) -> None:
    content = saved_model_pb2.SavedModel()
    content.ParseFromString((save_named(tmp_path / "module") / "saved_model.pb").read_bytes())
    assert register_ops(content, "a module") == ()
