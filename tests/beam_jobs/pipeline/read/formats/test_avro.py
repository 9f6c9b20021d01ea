"""Avro: containers and codecs, schemas, and files that are damaged or hostile."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.formats import avro_container
from beam_jobs.pipeline.read.formats.avro_container import write_long
from tests.support.examples import examples
from tests.support.runs.reading import ids, inspect, read_checked, read_unchecked, reasons, refused, texts

SYNC = b"0123456789abcdef"
TEXT = {"name": "text", "type": "string"}
RECORD = {"type": "record", "name": "R", "fields": [TEXT]}


def container(schema: Any, *blocks: tuple[int, bytes], codec: str = "null") -> bytes:
    """Builds a file by hand; blocks are numbers of records and stored bytes."""
    metadata = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": codec.encode()}
    head = b"Obj\x01" + write_long(len(metadata))
    for key, value in metadata.items():
        head += write_long(len(key)) + key + write_long(len(value)) + value
    body = b"".join(write_long(count) + write_long(len(data)) + data + SYNC for count, data in blocks)
    return head + b"\0" + SYNC + body


def written(schema: Any, rows: list[dict[str, Any]], **how: Any) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, rows, **how)
    return out.getvalue()


def sized(text: bytes) -> bytes:
    return write_long(len(text)) + text


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def snappy(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="snappy", asbytes=True)) + zlib.crc32(data).to_bytes(4, "big")


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": raw_deflate,
    "snappy": snappy,
    "zstandard": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec(tmp_path: Path, codec: str) -> None:
    compress = CODECS[codec]
    data = container(
        RECORD, (2, compress(sized(b"a") + sized(b"b"))), (1, compress(sized("é".encode()))), codec=codec
    )
    outcomes = read_unchecked(tmp_path / "a.avro", data)
    assert (texts(outcomes), ids(outcomes)) == (["a", "b", "é"], ["a.avro#0", "a.avro#1", "a.avro#2"])
    broken = read_unchecked(tmp_path / "a.avro", container(RECORD, (1, b"\x05"), codec=codec))
    assert reasons(broken) == ["damaged"]


def test_types_are_kept(tmp_path: Path) -> None:
    address = {"type": "record", "name": "A", "fields": [{"name": "city", "type": "string"}]}
    kinds: dict[str, Any] = {
        "i": "int", "f": "float", "b": "boolean", "s": ["null", "string"], "w": ["int", "long"],
        "t": {"type": "long", "logicalType": "timestamp-micros"},
        "d": {"type": "int", "logicalType": "date"},
        "n": {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2},
        "e": {"type": "enum", "name": "E", "symbols": ["P", "Q"]},
        "a": address, "again": ["null", "A"],
        "l": {"type": "array", "items": "long"}, "m": {"type": "map", "values": "int"},
    }  # fmt: skip
    schema = {**RECORD, "fields": [TEXT, *({"name": name, "type": kind} for name, kind in kinds.items())]}
    row = {
        "text": "x", "i": 1, "f": 0.5, "b": True, "s": None, "w": 2**40, "n": Decimal("1.25"), "e": "Q",
        "t": datetime(2024, 1, 1, tzinfo=UTC), "d": date(2024, 1, 1), "a": {"city": "Köln"},
        "again": {"city": "Bonn"}, "l": [1, 2], "m": {"k": 3},
    }  # fmt: skip
    path = tmp_path / "a.avro"
    path.write_bytes(written(schema, [row]))
    found = inspect(path, keep_columns=tuple(kinds), text_columns=("text",)).kept_schema
    assert [str(field.type) for field in found] == [
        *("int32", "float", "bool", "string", "int64", "timestamp[us, tz=UTC]", "date32[day]"),
        *("decimal128(5, 2)", "string", "struct<city: string>", "struct<city: string>"),
        *("list<item: int64>", "map<string, int32>"),
    ]
    (document,) = read_checked(path, keep_columns=tuple(kinds), text_columns=("text",))
    assert isinstance(document, Document)
    arrays = [pa.array([value], field.type) for value, field in zip(document.columns, found, strict=True)]
    expected = {name: row[name] for name in kinds} | {"m": [("k", 3)]}
    assert [array.to_pylist()[0] for array in arrays] == [*expected.values()]
    # The name A is defined by a column that is not read.
    assert texts(read_checked(path, text_columns=("again.city",))) == ["Bonn"]


def test_one_record_that_is_not_utf8_costs_no_other(tmp_path: Path) -> None:
    data = container(RECORD, (3, sized(b"a") + sized(b"caf\xe9") + sized(b"b")))
    outcomes = read_unchecked(tmp_path / "a.avro", data)
    assert reasons(outcomes) == ["ok", "invalid_encoding", "ok"]
    assert isinstance(outcomes[1], DeadLetter)
    assert (outcomes[1].text, outcomes[1].num_bytes) == ("caf\ufffd", 4)


def test_a_truncated_file_keeps_what_was_read(tmp_path: Path) -> None:
    data = container(RECORD, (2, sized(b"a") + sized(b"b")), (1, sized(b"c")))
    for cut in range(1, len(SYNC) + 4):
        outcomes = read_unchecked(tmp_path / "a.avro", data[:-cut])
        assert texts(outcomes) == ["a", "b"]
        assert isinstance(outcomes[-1], DeadFile)
        assert (outcomes[-1].reason, outcomes[-1].num_documents) == ("truncated", 2)
    short = read_unchecked(tmp_path / "a.avro", container(RECORD, (2, sized(b"a") + b"\x14b")))
    assert (texts(short), reasons(short)) == (["a"], ["ok", "damaged"])


def nested(depth: int) -> Any:
    kind: Any = "string"
    for level in range(depth):
        kind = {"type": "record", "name": f"N{level}", "fields": [{"name": "x", "type": kind}]}
    return kind


def doubling(levels: int) -> list[dict[str, Any]]:
    """Records of which each holds the one before twice."""
    fields = [{"name": "f0", "type": {"type": "record", "name": "D0", "fields": []}}]
    for level in range(1, levels):
        twice = [{"name": name, "type": f"D{level - 1}"} for name in "ab"]
        record = {"type": "record", "name": f"D{level}", "fields": twice}
        fields.append({"name": f"f{level}", "type": record})
    return fields


LIST_OF_SELF = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ([{"name": "x", "type": {"type": "array", "items": "null"}}], "without bytes"),
        ([{"name": "x", "type": LIST_OF_SELF}], "contains itself"),
        ([{"name": "x", "type": nested(100)}], "nested more than 64 times"),
        (doubling(50), "unfolds to more than"),
        ([{"name": "x", "type": "nosuch"}], "not valid"),
    ],
)
def test_schemas_that_no_record_could_be_read_by(tmp_path: Path, field: Any, message: str) -> None:
    path = tmp_path / "a.avro"
    path.write_bytes(container({**RECORD, "fields": [TEXT, *field]}, (1, sized(b"a"))))
    assert message in refused(path, text_columns=("text",))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged"),
        (b"Obj\x02", "damaged"),
        (b"Obj\x01\x02", "truncated"),
        (container({"type": "string"}), "damaged"),
        (container(RECORD, codec="lzo"), "unsupported_codec"),
        (container(RECORD, (10**15, sized(b"a"))), "damaged"),
        (container(RECORD) + write_long(1) + write_long(2**40), "damaged"),
        (container(RECORD) + b"\xff" * 12, "damaged"),
        *(
            (container(RECORD, (1, CODECS[name](sized(b"a" * 2_000))), codec=name), "damaged")
            for name in CODECS
        ),
    ],
)
def test_hostile_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str
) -> None:
    monkeypatch.setattr(avro_container, "MAX_BLOCK_BYTES", 1_000)  # what a block may unpack to
    assert reasons(read_unchecked(tmp_path / "a.avro", data)) == [reason]


def test_a_column_of_several_types_is_neither_text_nor_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.avro"
    schema = {**RECORD, "fields": [TEXT, {"name": "u", "type": ["string", "long"]}]}
    path.write_bytes(written(schema, [{"text": "a", "u": 5}]))
    assert "several types" in refused(path, keep_columns=("u",))
    assert "text is expected" in refused(path, text_columns=("u",))
    assert texts(read_checked(path, text_columns=("text",))) == ["a"]


@settings(max_examples=examples(120), deadline=None)
@given(data=st.data())
def test_changed_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    fields = [
        TEXT,
        {"name": "n", "type": ["null", "long"]},
        {"name": "l", "type": {"type": "array", "items": "int"}},
    ]
    rows = [{"text": f"row {number}", "n": number, "l": [number]} for number in range(20)]
    content = bytearray(
        written({**RECORD, "fields": fields}, rows, codec=data.draw(st.sampled_from(["null", "deflate"])))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("avro") / "a.avro"
    kept = pa.schema([("n", pa.int64())])
    outcomes = read_unchecked(path, bytes(content), kept=kept, keep_columns=("n",))
    assert len(outcomes) <= 10_000
