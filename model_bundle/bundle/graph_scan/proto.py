"""Reads the part of ``saved_model.pb`` that decides what a model can do, without TensorFlow.

The messages have the names, numbers and types of TensorFlow's own; fields not listed are skipped. So a model
can be scanned before TensorFlow is imported, in a tenth of the time the import takes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from model_bundle.errors import BundleFormatError

SAVED_MODEL_NAME = "saved_model.pb"
# Alternative forms that TensorFlow accepts next to or instead of that file.
OTHER_NAMES = ("saved_model.pbtxt", "saved_model.cpb")

_PACKAGE = "model_bundle_reading"
_ONEOFS = {"AttrValue": "value", "SavedObject": "kind"}
_BESIDE_THE_ONEOF = ("registered_name",)
# One line per field: name, number, type, and whether it is repeated or a map from strings.
_MESSAGES = {
    "SavedModel": "meta_graphs 2 MetaGraphDef *",
    "MetaGraphDef": """graph_def 2 GraphDef
        saver_def 3 SaverDef
        collection_def 4 CollectionDef map
        signature_def 5 SignatureDef map
        asset_file_def 6 AssetFileDef *
        object_graph_def 7 SavedObjectGraph""",
    "GraphDef": """node 1 NodeDef *
        library 2 FunctionDefLibrary""",
    "NodeDef": """name 1 string
        op 2 string
        input 3 string *
        attr 5 AttrValue map""",
    "AttrValue": """list 1 ListValue
        s 2 bytes
        type 6 DataType
        func 10 NameAttrList""",
    "ListValue": """s 2 bytes *
        func 9 NameAttrList *""",
    "NameAttrList": """name 1 string
        attr 2 AttrValue map""",
    "FunctionDefLibrary": """function 1 FunctionDef *
        gradient 2 GradientDef *
        registered_gradients 3 RegisteredGradient *""",
    "FunctionDef": """signature 1 OpDef
        node_def 3 NodeDef *
        attr 5 AttrValue map""",
    "OpDef": """name 1 string
        input_arg 2 ArgDef *""",
    "ArgDef": "name 1 string",
    "GradientDef": """function_name 1 string
        gradient_func 2 string""",
    "RegisteredGradient": """gradient_func 1 string
        registered_op_type 2 string""",
    "SaverDef": """filename_tensor_name 1 string
        save_tensor_name 2 string
        restore_op_name 3 string""",
    "CollectionDef": """node_list 1 NodeList
        bytes_list 2 BytesList
        any_list 5 AnyList""",
    "NodeList": "value 1 string *",
    "BytesList": "value 1 bytes *",
    "AnyList": "value 1 Any *",
    "Any": "value 2 bytes",
    "VariableDef": "initializer_name 2 string",
    "SignatureDef": """inputs 1 TensorInfo map
        outputs 2 TensorInfo map""",
    "TensorInfo": """name 1 string
        coo_sparse 4 CooSparse
        composite_tensor 5 CompositeTensor""",
    "CooSparse": """values_tensor_name 1 string
        indices_tensor_name 2 string
        dense_shape_tensor_name 3 string""",
    "CompositeTensor": "components 2 TensorInfo *",
    "AssetFileDef": """tensor_info 1 TensorInfo
        filename 2 string""",
    "SavedObjectGraph": """nodes 1 SavedObject *
        concrete_functions 2 SavedConcreteFunction map""",
    # All kinds: if a message sets two, the last one counts.
    "SavedObject": """children 1 ObjectReference *
        user_object 4 Unread
        asset 5 SavedAsset
        function 6 SavedFunction
        variable 7 Unread
        bare_concrete_function 8 SavedBareConcreteFunction
        registered_name 13 string
        constant 9 Unread
        resource 10 Unread
        captured_tensor 12 Unread""",
    "Unread": "",
    "ObjectReference": "node_id 1 int32",
    "SavedAsset": "asset_file_def_index 1 int32",
    "SavedFunction": "concrete_functions 1 string *",
    "SavedBareConcreteFunction": "concrete_function_name 1 string",
    "SavedConcreteFunction": "bound_inputs 2 int32 *",
}
_Field = descriptor_pb2.FieldDescriptorProto
# Its values are TensorFlow's; only their numbers are compared.
_TYPE = "DataType"
_SCALARS = {"string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES, "int32": _Field.TYPE_INT32}


def read_saved_model(directory: Path) -> Any:
    """Reads a SavedModel's graphs, without their constants.

    Args:
        directory: holds ``saved_model.pb``.

    Raises:
        BundleFormatError: the file is missing or damaged, or the folder has another form of it.
    """
    path = directory / SAVED_MODEL_NAME
    others = [name for name in OTHER_NAMES if (directory / name).exists()]
    if others or not path.is_file():
        found = ", ".join(others) or "none"
        raise BundleFormatError(
            f"{directory}: expected one file with the graph, {SAVED_MODEL_NAME}. Other graph files: {found}."
        )
    try:
        return message_class("SavedModel").FromString(path.read_bytes())
    except message.DecodeError as error:
        raise BundleFormatError(
            f"{directory} does not load as a SavedModel: {SAVED_MODEL_NAME} is damaged ({error}). Copy or "
            "export it again."
        ) from error


@cache
def message_class(name: str) -> Any:
    """Returns the class of a message, such as ``MetaGraphDef``."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    """Declares the messages in a separate pool, so that TensorFlow's can be loaded too."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    file.enum_type.add(name=_TYPE).value.add(name="DT_INVALID", number=0)
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        if name in _ONEOFS:
            declared.oneof_decl.add(name=_ONEOFS[name])
        for line in fields.splitlines():
            _add_field(declared, *line.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(declared: Any, name: str, number: str, kind: str, many: str = "") -> None:
    field = declared.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if many:
        field.label = _Field.LABEL_REPEATED
    elif declared.oneof_decl and name not in _BESIDE_THE_ONEOF:
        field.oneof_index = 0
    if many == "map":
        entry = declared.nested_type.add(name=_entry_name(name))
        entry.options.map_entry = True
        _add_field(entry, "key", "1", "string")
        _add_field(entry, "value", "2", kind)
        kind = f"{declared.name}.{entry.name}"
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind == _TYPE:
        field.type, field.type_name = _Field.TYPE_ENUM, f".{_PACKAGE}.{kind}"
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _entry_name(name: str) -> str:
    """Returns the name of a map's entry message, as the protocol buffer compiler builds it."""
    return "".join(part.capitalize() for part in name.split("_")) + "Entry"
