"""SavedModels that do more than compute, in each of the places where a graph can hide it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

_TEXTS = tf.TensorSpec([None], tf.string, name="text")
Serve = Callable[[Any], dict[str, Any]]


def save(path: Path, serve: Serve, module: Any = None) -> Path:
    """Saves a function of texts as the signature ``serving_default``."""
    module = tf.Module() if module is None else module
    module.serve = tf.function(serve, input_signature=[_TEXTS], autograph=False)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


def lengths(text: Any) -> dict[str, Any]:
    """float32[texts, 2]: the length of each text, and 1."""
    length = tf.cast(tf.strings.length(text), tf.float32)
    return {"vector": tf.stack([length, tf.ones_like(length)], axis=1)}


def writes_in_signature(path: Path, target: Path) -> Path:
    """Writes a file whenever it is called."""

    def serve(text: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.io.write_file(str(target), "x")]):
            return lengths(tf.identity(text))

    return save(path, serve)


def writes_in_loop(path: Path, target: Path) -> Path:
    """Writes a file in the body of a loop that a nested function runs."""

    def body(index: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(target), "x")]):
            return index + 1

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def nested() -> Any:
        return tf.while_loop(lambda index: index < 1, body, [tf.constant(0)])[0]

    def serve(text: Any) -> dict[str, Any]:
        with tf.control_dependencies([nested()]):
            return lengths(tf.identity(text))

    return save(path, serve)


class _Writing(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow is not typed
    """A resource that writes a file when it is made or filled; loading does both."""

    def __init__(self, on_creation: Path | None = None, on_initialisation: Path | None = None) -> None:
        super().__init__()
        self._on_creation, self._on_initialisation = on_creation, on_initialisation

    def _create_resource(self) -> Any:
        if self._on_creation is not None:
            tf.io.write_file(str(self._on_creation), "x")
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self) -> Any:
        if self._on_initialisation is not None:
            tf.io.write_file(str(self._on_initialisation), "x")
        return tf.constant(1.0)


def writes_in_initialiser(path: Path, target: Path) -> Path:
    """Writes a file when it is loaded."""
    module = tf.Module()
    module.resource = _Writing(on_initialisation=target)
    return save(path, lengths, module)


def writes_in_creator(path: Path, target: Path) -> Path:
    """Writes a file when its table is made; what makes it is named where few would look."""
    module = tf.Module()
    module.resource = _Writing(on_creation=target)
    table = module.resource.resource_handle

    def lookup(text: Any) -> dict[str, Any]:
        size = tf.raw_ops.LookupTableSizeV2(table_handle=table)
        return {"vector": lengths(text)["vector"] + tf.cast(size, tf.float32)}

    def hide(content: Any) -> None:
        # Loading looks at the saved object alone.
        content.meta_graphs[0].signature_def.clear()
        content.meta_graphs[0].collection_def.clear()
        for node in content.meta_graphs[0].object_graph_def.nodes:
            kept = [
                child for child in node.children if child.local_name not in ("_create_resource", "trace_0")
            ]
            node.dependencies.extend(child for child in node.children if child not in kept)
            del node.children[:]
            node.children.extend(kept)

    saved = change(save(path, lookup, module), hide)
    target.unlink(missing_ok=True)  # saving makes it, too
    return saved


def writes_on_restore(path: Path, target: Path) -> Path:
    """Writes a file when its table is restored from the checkpoint, which loading does."""
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.table.insert(tf.constant(["a"]), tf.constant([1], tf.int64))
    save(path, lengths, module)

    def add(content: Any) -> None:
        for function in content.meta_graphs[0].graph_def.library.function:
            if "restore_fn" in function.signature.name:
                _add_write(function.node_def, str(target))
                function.control_ret["evil"] = "evil"  # without it, what nobody needs is not run
                function.signature.control_output.append("evil")

    return change(path, add)


def _add_write(nodes: Any, target: str) -> None:
    """Adds constants and the operation that writes them."""
    for name, value in (("evil_name", target), ("evil_text", "x")):
        made = tf.compat.v1.NodeDef(name=name, op="Const")
        made.attr["dtype"].type = tf.string.as_datatype_enum
        made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        nodes.append(made)
    inputs = ["evil_name:output:0", "evil_text:output:0"]
    nodes.append(tf.compat.v1.NodeDef(name="evil", op="WriteFile", input=inputs))


def change(path: Path, edit: Callable[[Any], None]) -> Path:
    """Edits a ``saved_model.pb`` in place."""
    file = path / "saved_model.pb"
    content = saved_model_pb2.SavedModel()
    content.ParseFromString(file.read_bytes())
    edit(content)
    file.write_bytes(content.SerializeToString())
    return path


def save_tf1(path: Path, words: Path, *, in_signature: bool = False, reads_input: bool = False) -> Path:
    """Saves a graph of TF1 that looks words up in a table, which is filled from an asset.

    Args:
        path: the folder to make.
        words: where to write the asset before it is copied.
        in_signature: fill the table at every call, too.
        reads_input: the signature's input is what reading a file gives, as in a training graph.
    """
    v1 = tf.compat.v1
    words.write_text("the\ncat\n")
    with v1.Graph().as_default(), v1.Session() as session:
        text = tf.io.matching_files("/tmp/*") if reads_input else v1.placeholder(tf.string, [None])
        source = tf.constant(str(words), name="words")
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, source)
        table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="table")
        fill = tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=table, filename=source, key_index=-2, value_index=-1, vocab_size=-1
        )
        with tf.control_dependencies([fill] if in_signature else []):
            found = tf.raw_ops.LookupTableFindV2(
                table_handle=table, keys=text, default_value=tf.constant(-1, tf.int64)
            )
        build = v1.saved_model.build_signature_def
        describe = v1.saved_model.build_tensor_info
        signature = build({"text": describe(text)}, {"found": describe(found)}, "predict")
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=fill,
        )
        builder.save()
    return path
