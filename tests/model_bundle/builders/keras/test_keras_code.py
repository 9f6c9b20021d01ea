"""A Keras file names code in many places: each name is on the list, or the user's own, or refused unread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_bundle.builders.keras.load.code_check import find_code, name_own, without_training
from model_bundle.builders.keras.load.keras_objects import listed_names
from model_bundle.builders.keras.load.parent import plan
from model_bundle.builders.keras.options import LoadChoices
from model_bundle.builders.keras.source import find_source
from model_bundle.errors import SourceError
from tests.support.models.keras_processes import keras_process
from tests.support.models.tensorflow_calls import public_names, stored_functions, stored_operations


def dense(**changes: Any) -> dict[str, Any]:
    config = {"name": "dense", "units": 3, "activation": "linear", **changes}
    return {"class_name": "Dense", "module": "keras.layers", "registered_name": None, "config": config}


def layer(class_name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "module": module, "config": {"name": "evil", **config}}


def function(name: str, module: str | None, registered_name: str | None = None) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": registered_name}


def architecture(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}


CODE = [
    # A function as an attribute of a module of Keras, under dots or not.
    (
        layer("Lambda", function=function("os.system", "tf_keras.src.utils.data_utils", "os.system")),
        "os.system",
    ),
    (layer("Lambda", function=function("get_file", "keras.utils")), "get_file"),
    (layer("Lambda", function=function("get_file", "tensorflow.keras.utils")), "get_file"),
    (layer("Lambda", function=function("system", "os", "model_bundle>BundleEmbedding")), "system"),
    (layer("Lambda", function=function("get_file", None)), "get_file"),
    (layer("Lambda", function="system", function_type="function"), "'system'"),
    (layer("Lambda", function="own", function_type="raw", output_shape="system"), "'system'"),
    (layer("Lambda", function={"code": "system"}), "unknown form"),
    # An activation that is no text, or no activation.
    (dense(activation=function("eval", "builtins")), "eval"),
    (dense(activation=function("relu", "os")), "relu"),
    (dense(activation=function("relu", "keras.activations", "system")), "relu"),
    (dense(activation="deserialize"), "activation is 'deserialize'"),
    (dense(kernel_initializer="os.system"), "kernel_initializer is 'os.system'"),
    (dense(kernel_initializer={"class_name": "Zeros", "module": "os", "config": {}}), "the module os"),
    # A class of the list from elsewhere, or under another's name.
    (layer("Dense", "tf_keras.src.utils.data_utils"), "tf_keras.src.utils.data_utils"),
    (layer("Dense", "keras.utils"), "keras.utils"),
    ({**dense(), "registered_name": "os.system"}, "under the name os.system"),
    ({**dense(), "registered_name": "model_bundle>BundleEmbedding"}, "under the name"),
    (layer("layers.Dense", "keras"), "layers.Dense"),
    (layer("Popen", "tensorflow.python.platform.subprocess"), "Popen"),
    ({"class_name": ["Dense"], "config": {}}, "['Dense']"),
    ({"class_name": "__typespec__", "config": {}, "module": "os", "spec_name": "system"}, "__typespec__"),
    ({"class_name": "__lambda__", "config": {"value": "4wEAAAA"}}, "byte code"),
    # Layers that open files or other programs.
    (layer("TFSMLayer", filepath="/somewhere"), "TFSMLayer"),
    (layer("TorchModuleWrapper", module_state="x"), "TorchModuleWrapper"),
    (layer("DenseFeatures", feature_columns=[]), "DenseFeatures"),
    # Functions of TensorFlow.
    (layer("TFOpLambda", function="io.gfile.copy"), "evil (TFOpLambda) calls tf.io.gfile.copy"),
    (layer("TFOpLambda", function="io.write_file"), "tf.io.write_file"),
    (layer("TFOpLambda", function="raw_ops.WriteFile"), "tf.raw_ops.WriteFile"),
    (layer("TFOpLambda", function="compat.v1.gfile.Copy"), "tf.compat.v1.gfile.Copy"),
    (layer("TFOpLambda", function="compat.v1.compat.v1.load_op_library"), "load_op_library"),
    (layer("TFOpLambda", function=["math.add"]), "['math.add']"),
    (layer("SlicingOpLambda", function="io.gfile.copy"), "tf.io.gfile.copy"),
    (layer("TensorFlowOpLayer", node_def={"op": "WriteFile"}), "WriteFile"),
    (layer("TensorFlowOpLayer", node_def="CglXcml0ZUZpbGU="), "packed form"),
    (layer("InstanceMethod", attr_name="__class__"), "__class__ of a tensor"),
    (layer("ClassMethod", cls_symbol="io.gfile.GFile", method_name="write"), "ClassMethod"),
    # Further in: inside a wrapper, an argument of a call, or a layer of the user's.
    (layer("TimeDistributed", layer=layer("TFOpLambda", function="io.gfile.copy")), "tf.io.gfile.copy"),
    ({**dense(), "inbound_nodes": [{"args": [], "kwargs": {"a": function("eval", "builtins")}}]}, "eval"),
    (layer("Own", None, inner=layer("fly", "antigravity")), "antigravity"),
]


@pytest.mark.parametrize(("item", "cause"), CODE)
@pytest.mark.parametrize("depth", [0, 1])
def test_code_is_refused_and_named(item: dict[str, Any], cause: str, depth: int, tmp_path: Path) -> None:
    config = architecture(dense(), architecture(item) if depth else item)
    (tmp_path / "model.json").write_text(json.dumps(config))
    (tmp_path / "weights.h5").touch()
    choices = LoadChoices(weights=tmp_path / "weights.h5", custom_objects=("tests.support.once:Own",))
    with pytest.raises(SourceError) as refused:
        plan(find_source(tmp_path / "model.json"), choices, tmp_path / "out")
    assert cause in str(refused.value)
    assert "--allow_code" in str(refused.value)
    assert "with your permissions" in str(refused.value)


@pytest.mark.parametrize(
    "item",
    [
        dense(),
        dense(activation="relu", kernel_initializer="glorot_uniform", bias_regularizer="l2"),
        dense(activation=function("relu", "builtins", "relu")),
        dense(activation=function("relu", "keras.activations")),
        dense(activation=function("own_activation", "their.module", "own_activation")),
        dense(activation="own_activation"),
        {"class_name": "Dense", "config": {"activation": "relu"}},
        layer("Own", "their.module"),
        {**layer("Own", "their.module"), "registered_name": "their>Own"},
        {**layer("Packed", None), "registered_name": "model>Packed"},
        layer("Functional", "keras.src.engine.functional"),
        {**layer("Add", "keras.src.ops.numpy"), "registered_name": "Add"},
        layer("Add"),
        layer("TFOpLambda", "tf_keras.src.layers.core.tf_op_layer", function="math.reduce_mean"),
        # Older versions of TensorFlow stored the other name of the same function.
        layer("TFOpLambda", function="transpose"),
        layer("TensorFlowOpLayer", node_def={"op": "AddV2"}),
        layer("Lambda", function=function("own_activation", "builtins", "own_activation")),
    ],
)
def test_what_keras_and_the_user_have_is_no_code(item: dict[str, Any]) -> None:
    assert find_code(architecture(item), ("Own", "own_activation", "model>Packed")) == ()


def test_modules_of_the_user_s_objects_are_not_taken_from_the_file() -> None:
    own = {**layer("Own", "antigravity"), "registered_name": "antigravity>Own"}
    used = dense(activation=function("own", "antigravity", "other>own"))
    named = name_own(architecture(own, used), ("Own", "own"))
    assert "antigravity" not in json.dumps(named)
    first, second = named["config"]["layers"]
    assert (first["module"], first["registered_name"]) == (None, "Own")
    assert second["config"]["activation"] == function("own", "builtins", "own")


def test_losses_of_training_are_left_out_wherever_they_are() -> None:
    inner = {**architecture(dense()), "compile_config": {"loss": function("system", "os")}}
    config = without_training({**architecture(inner), "compile_config": {"optimizer": "adam"}})
    assert config == architecture(architecture(dense()))


@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
@pytest.mark.parametrize("key", ["vocabulary", "idf_weights"])
@pytest.mark.parametrize("allow_code", [False, True])
def test_files_in_place_of_words_are_refused(kind: str, key: str, allow_code: bool, tmp_path: Path) -> None:
    for value in ("/etc/passwd", {"class_name": "__bytes__", "config": {"value": "/etc/passwd"}}):
        inner = layer(kind, **{key: value})
        config = architecture(layer("TimeDistributed", layer=inner))
        (tmp_path / "model.json").write_text(json.dumps(config))
        (tmp_path / "weights.h5").touch()
        choices = LoadChoices(weights=tmp_path / "weights.h5", allow_code=allow_code)
        with pytest.raises(SourceError, match=rf"the layer evil: {key} is .*/etc/passwd"):
            plan(find_source(tmp_path / "model.json"), choices, tmp_path / "out")


@pytest.mark.slow
def test_every_function_is_listed_because_keras_2_stores_it() -> None:
    with keras_process(2) as process:
        stored = process.submit(stored_functions).result()
    assert {name: name in names for name, names in stored.items()} == dict.fromkeys(stored, True)
    assert set(listed_names("functions")) == set(stored) == set().union(*stored.values())


@pytest.mark.slow
def test_the_list_has_what_keras_has() -> None:
    has: dict[str, set[str]] = {}
    for generation in (2, 3):
        with keras_process(generation) as process:  # type: ignore[arg-type]
            for kind, names in process.submit(public_names).result().items():
                has.setdefault(kind, set()).update(names)
    # These open files, run other programs, or are bases of others.
    left_out = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "DenseFeatures"}
    left_out |= {"AbstractRNNCell", "Layer", "Wrapper", "Initializer", "Regularizer", "Constraint"}
    left_out |= {"get", "serialize", "deserialize", "MaxNumBoundingBoxes"}
    for kind, names in has.items():
        assert set(listed_names(kind)) == names - left_out, kind


@pytest.mark.parametrize("module", ["numpy", "math", "nn", "core", "linalg"])
def test_every_operation_is_listed_because_a_function_of_keras_3_stores_it(module: str) -> None:
    # These call a function that they are given.
    left_out = {"AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"}
    left_out |= {"JVP"}
    stored = stored_operations(module)
    assert set(listed_names(f"ops.{module}")) == stored.keys() - left_out, stored
