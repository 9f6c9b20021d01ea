"""No file beside the model's own assets is reached by what looks like saving, restoring or an asset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from model_bundle.bundle.graph_scan.proto import message_class
from model_bundle.bundle.graph_scan.scan import scan_folder, scan_saved_model
from model_bundle.errors import ForbiddenOperationError
from tests.support.models.hostile_models import path_changed_in_place, save_with_path_variable, saver_writes
from tests.support.models.hub_modules import save_sentence_encoder
from tests.support.models.saved_models import change, lengths, save, save_tf1

SAVERS = [("Save", "part"), ("SaveV2", "part"), ("Save", ".TENSORS")]
OUTSIDE = "fills a table from a file that is not one of the model's own assets"


@pytest.mark.parametrize(("operation", "name"), SAVERS)
def test_what_saves_a_part_may_not_write_since_loading_runs_it(
    operation: str, name: str, tmp_path: Path
) -> None:
    target = tmp_path / "written"
    path = saver_writes(tmp_path / "model", target, operation=operation, name=name)
    with pytest.raises(ForbiddenOperationError, match=rf"(?s){operation} writes files .*--allow_ops"):
        scan_folder(path, "a model")
    if name == "part":  # the other way is taken only for what the checkpoint holds
        for left in tmp_path.glob("written*"):
            left.unlink()
        tf.saved_model.load(str(path))
        assert list(tmp_path.glob("written*"))  # no straw man


def test_what_restores_a_part_may_not_read_a_checkpoint(tmp_path: Path) -> None:
    path = saver_writes(tmp_path / "model", tmp_path / "written")

    def swap(content: Any) -> None:
        for function in content.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                node.op = "RestoreV2" if node.op == "Save" else node.op

    with pytest.raises(ForbiddenOperationError, match="RestoreV2 reads files"):
        scan_folder(change(path, swap), "a model")


def test_a_model_with_every_kind_of_saver_passes(tmp_path: Path) -> None:
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    module.name_of = tf.Variable("a string")
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    assert scan_folder(save(tmp_path / "model", lengths, module), "a model") == ()


@pytest.mark.parametrize("place", ["gs://bucket/elsewhere", "/etc/elsewhere"])
def test_a_saver_restores_only_what_its_caller_names(place: str, tmp_path: Path) -> None:
    """TF2's graph names the prefix in a function, TF1's beside the operation."""

    def name_it(nodes: Any, suffix: str) -> bool:
        for node in nodes:
            if node.op == "RestoreV2":
                made = nodes.add(name="elsewhere", op="Const")
                made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(place))
                node.input[0] = f"elsewhere{suffix}"
                return True
        return False

    def edit(content: Any) -> None:
        graph = content.meta_graphs[0].graph_def
        assert any(name_it(function.node_def, ":output:0") for function in graph.library.function)

    module = tf.Module()
    module.weight = tf.Variable(1.0)
    path = change(save(tmp_path / "model", lengths, module), edit)
    with pytest.raises(ForbiddenOperationError, match="RestoreV2 reads files"):
        scan_folder(path, "a model")


def test_a_path_that_joins_the_callers_prefix_with_more_is_not_the_callers() -> None:
    content = message_class("SavedModel")()
    graph = content.meta_graphs.add()
    nodes = graph.graph_def.node
    nodes.add(name="prefix", op="Placeholder")
    nodes.add(name="more", op="Const")
    nodes.add(name="joined", op="StringJoin", input=["prefix", "more"])
    nodes.add(name="restore", op="RestoreV2", input=["prefix"])
    graph.saver_def.filename_tensor_name = "prefix:0"
    graph.saver_def.restore_op_name = "restore"
    assert scan_saved_model(content, "a model") == ()
    nodes[-1].input[0] = "joined"
    with pytest.raises(ForbiddenOperationError, match="RestoreV2 reads files"):
        scan_saved_model(content, "a model")


def test_strings_may_not_be_changed_in_place_numbers_may(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET\n")
    path = path_changed_in_place(tmp_path / "model", secret)
    with pytest.raises(ForbiddenOperationError, match="InplaceUpdate changes strings in place, which may be"):
        scan_folder(path, "a model")
    served = tf.saved_model.load(str(path)).signatures["serving_default"](text=tf.constant(["x"]))
    assert b"SECRET" in served["keys"].numpy()  # no straw man

    def numbers(text: Any) -> dict[str, Any]:
        ones = tf.ones([3])
        return {"x": tf.raw_ops.InplaceUpdate(x=ones, i=[0], v=[[2.0]][0]) + lengths(text)["vector"][0, 0]}

    assert scan_folder(save(tmp_path / "numbers", numbers), "a model") == ()


def test_a_type_that_the_call_decides_may_be_strings() -> None:
    content = message_class("SavedModel")()
    graph = content.meta_graphs.add()
    graph.graph_def.node.add(name="x", op="InplaceUpdate")  # T comes from a placeholder of the function
    graph.signature_def["serve"].outputs["x"].name = "x:0"
    with pytest.raises(ForbiddenOperationError, match="InplaceUpdate"):
        scan_saved_model(content, "a model")


def path_variable(graph: Any) -> tuple[Any, Any]:
    """Returns the handle of the variable with the path, and what assigns it."""
    assign = next(node for node in graph.node if node.op == "AssignVariableOp")
    return next(node for node in graph.node if node.name == assign.input[0]), assign


def writer(operation: str, *, own_handle: bool) -> Callable[[Any], None]:
    def edit(graph: Any) -> None:
        handle, _ = path_variable(graph)
        constant = graph.node.add(name="elsewhere", op="Const")
        constant.attr["dtype"].type = tf.string.as_datatype_enum
        name = handle.name
        if own_handle:
            second = graph.node.add()
            second.CopyFrom(handle)
            second.name = name = "second_handle"
            # Its name for the variable: its own node name is what counts otherwise.
            second.attr["shared_name"].s = handle.attr["shared_name"].s or handle.name.encode()
        wrote = graph.node.add(name="writer", op=operation, input=[name, "elsewhere"])
        kind = "dtype" if operation in ("AssignVariableOp", "ResourceScatterUpdate") else "T"
        wrote.attr[kind].type = tf.string.as_datatype_enum

    return edit


@pytest.mark.parametrize("own_handle", [False, True], ids=["same handle", "second handle"])
@pytest.mark.parametrize(
    "operation",
    ["AssignVariableOp", "ResourceScatterUpdate", "ResourceScatterNdUpdate", "ResourceStridedSliceAssign"],
)
def test_the_variable_with_a_path_may_be_given_nothing_else(
    operation: str, own_handle: bool, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    assert scan_folder(save_with_path_variable(tmp_path / "good", words), "a model") == ()
    path = save_with_path_variable(tmp_path / "bad", words, writer(operation, own_handle=own_handle))
    with pytest.raises(ForbiddenOperationError, match=OUTSIDE):
        scan_folder(path, "a model")


def test_a_function_that_writes_strings_to_whatever_it_is_given_is_a_writer(tmp_path: Path) -> None:
    def edit(graph: Any) -> None:
        function = graph.library.function.add()
        function.signature.name = "writes"
        function.signature.input_arg.add(name="handle")
        wrote = function.node_def.add(name="w", op="ResourceScatterUpdate", input=["handle"])
        wrote.attr["dtype"].placeholder = "T"

    path = save_with_path_variable(tmp_path / "bad", tmp_path / "words.txt", edit)
    with pytest.raises(ForbiddenOperationError, match=OUTSIDE):
        scan_folder(path, "a model")


def asset_node(content: Any) -> Any:
    nodes = content.meta_graphs[0].object_graph_def.nodes
    return next(node for node in nodes if node.WhichOneof("kind") == "asset")


def replace_its_path(content: Any) -> None:
    """Loading sets attributes of objects from their children, of an asset also the one with its path."""
    asset_node(content).children.add(node_id=0, local_name="_path")


def give_it_a_class(content: Any) -> None:
    """A registered class goes before the kind of an object: this one reads a constant of the graph."""
    asset_node(content).registered_name = "tf.TrackableConstant"


@pytest.mark.parametrize("edit", [replace_its_path, give_it_a_class])
def test_an_asset_that_would_not_stay_one_is_none(edit: Callable[[Any], None], tmp_path: Path) -> None:
    path = change(save_sentence_encoder(tmp_path / "module", tmp_path / "vocabulary.txt"), edit)
    with pytest.raises(ForbiddenOperationError, match=OUTSIDE):
        scan_folder(path, "a model")


def test_only_the_output_that_loading_feeds_is_the_assets_path(tmp_path: Path) -> None:
    def other_output(content: Any) -> None:
        for node in content.meta_graphs[0].graph_def.node:
            if node.op == "InitializeTableFromTextFileV2":
                node.input[1] = f"{node.input[1].split(':')[0]}:1"

    path = change(save_tf1(tmp_path / "model", tmp_path / "words"), other_output)
    with pytest.raises(ForbiddenOperationError, match=OUTSIDE):
        scan_folder(path, "a model")
