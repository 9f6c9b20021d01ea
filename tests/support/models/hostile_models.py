"""SavedModels that reach for files while TensorFlow loads them, by ways that look like saving and assets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.support.models.saved_models import change, lengths, save

_TENSORS = ".TENSORS"


def saver_writes(path: Path, target: Path, *, operation: str = "Save", name: str = "part") -> Path:
    """Writes a file in the function that saves a part of the model, which TensorFlow's loader calls.

    Args:
        path: the folder to create.
        target: the file that appears, or the prefix of several.
        operation: ``Save`` or ``SaveV2``.
        name: of the part: ``.TENSORS`` takes the loader's other way.
    """

    def save_part(key: Any = "") -> Any:
        del key
        names = {"tensor_names": tf.constant(["k"])}
        if operation == "Save":
            written = tf.raw_ops.Save(filename=str(target), data=[tf.constant(["x"])], **names)
        else:
            written = tf.raw_ops.SaveV2(
                prefix=str(target), shape_and_slices=[""], tensors=[tf.constant(["x"])], **names
            )
        with tf.control_dependencies([written]):
            if name == _TENSORS:
                return {"v": tf.constant(1.0)}
            return [{"name": tf.constant("v"), "slice_spec": tf.constant(""), "tensor": tf.constant(1.0)}]

    inputs = [] if name == _TENSORS else [tf.TensorSpec([], tf.string)]
    module = tf.Module()
    module.saves = tf.function(save_part, input_signature=inputs, autograph=False)
    module.restores = tf.function(
        lambda part: part, input_signature=[tf.TensorSpec(None, tf.float32)], autograph=False
    )
    save(path, lengths, module)

    def hang(content: Any) -> None:
        nodes = content.meta_graphs[0].object_graph_def.nodes
        functions = {child.local_name: child.node_id for child in nodes[0].children}
        kept = [child for child in nodes[0].children if child.local_name not in ("saves", "restores")]
        del nodes[0].children[:]
        nodes[0].children.extend(kept)
        saver = nodes[0].saveable_objects[name]
        saver.save_function, saver.restore_function = functions["saves"], functions["restores"]

    return change(path, hang)


def path_changed_in_place(path: Path, target: Path) -> Path:
    """Fills a table from another file: the path of its asset is overwritten where it is stored."""
    words = path.with_name(f"{path.name}-words.txt")
    words.write_text("one\ntwo\n")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(words))
    module.table = _Table()

    @tf.function(input_signature=[], autograph=False)  # type: ignore[untyped-decorator]
    def fill() -> Any:
        name = module.asset.asset_path
        changed = tf.raw_ops.InplaceUpdate(x=tf.reshape(name, [1]), i=[0], v=tf.constant([str(target)]))
        with tf.control_dependencies([changed]):
            tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=module.table.resource_handle, filename=name, key_index=-2, value_index=-1
            )
        return tf.constant(1.0)

    module.table._initialize = fill

    def serve(text: Any) -> dict[str, Any]:
        keys, _ = tf.raw_ops.LookupTableExportV2(
            table_handle=module.table.resource_handle, Tkeys=tf.string, Tvalues=tf.int64
        )
        return {"keys": tf.concat([keys, text[:0]], 0)}

    return save(path, serve, module)


class _Table(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow is not typed
    def __init__(self) -> None:
        super().__init__()
        self._resource_handle = self._create_resource()

    def _create_resource(self) -> Any:
        return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="filled")

    def _initialize(self) -> Any:
        return None


def save_with_path_variable(path: Path, words: Path, edit: Callable[[Any], None] | None = None) -> Path:
    """Saves a table whose asset's path is in a variable when a graph is run, as TensorFlow 2 exports it.

    Args:
        path: the folder to create.
        words: where to write the asset.
        edit: changes the graph before it is written.
    """
    words.write_text("one\ntwo\n")
    module = tf.Module()
    module.table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(words),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        1,
    )
    save(path, lambda text: {"ids": module.table.lookup(text)}, module)
    if edit is not None:
        change(path, lambda content: edit(content.meta_graphs[0].graph_def))
    return path
