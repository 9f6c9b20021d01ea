"""The list of allowed operations, and the part of the format that is read, against TensorFlow itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2, variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from model_bundle.bundle.graph_scan.allowed_operations import (
    ALLOWED,
    CALLING,
    RESTORING,
    SAVING,
    TEXT_OPS,
    why_refused,
)
from model_bundle.bundle.graph_scan.proto import message_class

# What an operation calls an argument that names something outside of the graph.
_OUTSIDE = re.compile(
    r"file|path|url|address|host(?!_reserved)|(?<!re)source|region|pattern|vocab_|protocol|stream"
)
# Looked at one by one: regular expressions, a kind of gradient, paths of a beam, tensors in a host's memory;
# tables and printing, which the scan judges by what they are given.
_HARMLESS = {
    "RegexFullMatch": "pattern",
    "RegexReplace": "pattern",
    "StaticRegexFullMatch": "pattern",
    "StaticRegexReplace": "pattern",
    "TensorArrayGrad": "source",
    "TensorArrayGradV2": "source",
    "TensorArrayGradV3": "source",
    "TensorArrayGradWithShape": "source",
    "CTCBeamSearchDecoder": "top_paths",
    "InitializeTableFromTextFile": "vocab_size filename",
    "InitializeTableFromTextFileV2": "vocab_size filename",
    "PrintV2": "output_stream",
    "_QuantizedMatMul": "host_inputs Thost_inputs Thost_outputs",
}
_NAMES = """
    ReadFile WriteFile MatchingFiles PyFunc EagerPyFunc PyFuncStateless SaveV2 RestoreV2 MergeV2Checkpoints
    TextLineDataset AnonymousIteratorV3 OneShotIterator MakeIterator RemoteCall Send Recv Abort
    DebugIdentityV2
    WriteSummary CreateSummaryFileWriter LoadAndRemapMatrix FixedUnigramCandidateSampler ImmutableConst
    DecodeProtoV2 EncodeProto DumpTensor FileSystemSetConfiguration XlaCallModule RpcCall DatasetFromGraph
    WholeFileReaderV2 RecordInput SaveDatasetV2 LMDBReader SqlDataset DataServiceDatasetV4 TPUExecute
"""
_WAYS_OUT = _NAMES.split()


@pytest.fixture(scope="module")
def registered() -> dict[str, Any]:
    operations = op_def_pb2.OpList()
    operations.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {operation.name: operation for operation in operations.op}


def test_every_allowed_operation_exists(registered: dict[str, Any]) -> None:
    assert sorted((ALLOWED | SAVING) - TEXT_OPS - registered.keys()) == []


def test_no_allowed_operation_is_told_of_anything_outside(registered: dict[str, Any]) -> None:
    found = {}
    for name in sorted(ALLOWED & registered.keys()):
        operation = registered[name]
        arguments = [argument.name for argument in (*operation.input_arg, *operation.attr)]
        outside = [argument for argument in arguments if _OUTSIDE.search(argument)]
        if sorted(outside) != sorted(_HARMLESS.get(name, "").split()):
            found[name] = outside
    assert found == {}


def test_only_those_that_are_known_to_call_functions_do(registered: dict[str, Any]) -> None:
    taking = {
        name
        for name in ALLOWED & registered.keys()
        if any(attribute.type in ("func", "list(func)") for attribute in registered[name].attr)
    }
    assert taking == CALLING


def test_the_ways_out_are_not_allowed(registered: dict[str, Any]) -> None:
    assert [name for name in _WAYS_OUT if name in ALLOWED] == []
    assert [name for name in _WAYS_OUT if name not in registered and name != "TRTEngineOp"] == []
    assert RESTORING < SAVING
    assert "SaveV2" not in RESTORING


def test_reasons_are_given_where_they_are_known() -> None:
    assert why_refused("EagerPyFunc") == "runs Python"
    assert why_refused("NoSuchOperation").startswith("is not on the list")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("SavedModel", saved_model_pb2.SavedModel),
        ("AssetFileDef", meta_graph_pb2.AssetFileDef),
        ("VariableDef", variable_pb2.VariableDef),
    ],
)
def test_fields_are_those_of_tensorflow(ours: str, theirs: Any) -> None:
    compared: set[str] = set()
    _compare(message_class(ours).DESCRIPTOR, theirs.DESCRIPTOR, compared)
    assert compared


def _compare(ours: Any, theirs: Any, compared: set[str]) -> None:
    if ours.full_name in compared:
        return
    compared.add(ours.full_name)
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        for attribute in ("number", "type", "is_repeated"):
            assert getattr(field, attribute) == getattr(other, attribute), (ours.name, field.name, attribute)
        if field.message_type is not None and field.message_type.name != "Unread":
            _compare(field.message_type, other.message_type, compared)


def test_every_kind_of_saved_object_is_known() -> None:
    """Where a message names two kinds the last one counts, so that an unknown one would hide."""
    from tensorflow.core.protobuf import saved_object_graph_pb2

    theirs = saved_object_graph_pb2.SavedObject.DESCRIPTOR.oneofs_by_name["kind"].fields
    ours = message_class("SavedObject").DESCRIPTOR.oneofs_by_name["kind"].fields
    assert {field.name for field in ours} == {field.name for field in theirs}


def test_reading_gives_what_tensorflow_reads(tiny_bundle: Any) -> None:
    data = (tiny_bundle / "saved_model" / "saved_model.pb").read_bytes()
    ours = message_class("SavedModel").FromString(data)
    theirs = saved_model_pb2.SavedModel.FromString(data)
    for one, other in zip(ours.meta_graphs, theirs.meta_graphs, strict=True):
        assert [n.op for n in one.graph_def.node] == [n.op for n in other.graph_def.node]
        functions = zip(one.graph_def.library.function, other.graph_def.library.function, strict=True)
        for mine, yours in functions:
            assert [n.name for n in mine.node_def] == [n.name for n in yours.node_def]
    assert tf.__version__
