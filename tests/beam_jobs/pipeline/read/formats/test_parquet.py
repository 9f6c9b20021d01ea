"""Parquet."""

from __future__ import annotations

import base64
import decimal
import io
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.inspect import inspect_input
from beam_jobs.pipeline.read.splits import plan_splits, read_split
from beam_jobs.pipeline.read.types import ReadPlan
from tests.support.runs.reading import file_info, ids, read_checked, read_unchecked, reasons, refused, texts


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def broken_strings(values: list[bytes | None]) -> pa.Array:
    """Builds a string array of bytes that need not be UTF-8, as careless writers do."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    array = pa.array(["a", None, "", "é𝄞"]).cast(kind)
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(pa.table({"other": range(4), "text": array})))
    outcomes = read_checked(tmp_path / "a.parquet")
    assert texts(outcomes) == ["a", "", "", "é𝄞"]
    assert ids(outcomes) == [f"a.parquet#{row}" for row in range(4)]


@pytest.mark.parametrize("split_bytes", [1, 500, 10**9])
def test_spans_are_ranges_of_row_groups_and_rows_are_numbered_through(
    tmp_path: Path, split_bytes: int
) -> None:
    rng = np.random.default_rng(3)
    rows = [f"row {number} {rng.integers(10**9)}" for number in range(1000)]
    content = parquet_bytes(pa.table({"text": rows}), row_group_size=70)
    path = tmp_path / "a.parquet"
    outcomes = read_unchecked(path, content, split_bytes=split_bytes)
    assert texts(outcomes) == rows
    assert ids(outcomes) == [f"a.parquet#{row}" for row in range(1000)]
    splits = list(plan_splits([file_info(path)], ReadOptions((str(path),)), split_bytes))
    assert len(splits) == {1: 15, 500: len(splits), 10**9: 1}[split_bytes]


def test_bytes_told_add_up_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(
        parquet_bytes(pa.table({"text": [f"row {row}" for row in range(1000)]}), row_group_size=70)
    )
    options, told = ReadOptions((str(path),)), 0

    def on_bytes(count: int) -> None:
        nonlocal told
        told += count

    for split in plan_splits([file_info(path)], options, 1):
        list(read_split(split, ReadPlan(options, ("text",), pa.schema([])), on_bytes))
    assert told == path.stat().st_size


COLUMNS = {
    "i8": pa.array([1, None], pa.int8()),
    "u64": pa.array([2**64 - 1, None], pa.uint64()),
    "f16": pa.array([1.5, None], pa.float16()),
    "f64": pa.array([0.1, float("inf")]),
    "bool": pa.array([True, None]),
    "string": pa.array(["é", None]),
    "large": pa.array(["é", None], pa.large_string()),
    "binary": pa.array([b"\xff", None]),
    "fixed": pa.array([b"ab", None], pa.binary(2)),
    "decimal": pa.array([decimal.Decimal("1.23"), None]),
    "date": pa.array([19000, None], pa.date32()),
    "time": pa.array([123_456_789, None], pa.time64("ns")),
    "seconds": pa.array([12, None], pa.time32("ms")),
    "stamp": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "Europe/Berlin")),
    "micros": pa.array([2**60, -(2**60)], pa.timestamp("us")),  # beyond what datetime can hold
    "duration": pa.array([1, None], pa.duration("ns")),
    "list": pa.array([[1, None], None], pa.list_(pa.int32())),
    "stamps": pa.array([[1, None], None], pa.list_(pa.timestamp("ns"))),
    "struct": pa.array(
        [{"a": 1, "b": [1]}, None], pa.struct([("a", pa.timestamp("ns")), ("b", pa.list_(pa.int8()))])
    ),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    "enum": pa.array(["x", None]).dictionary_encode(),
    "nulls": pa.nulls(2),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_kept_columns_come_through_with_their_types(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_bytes(pa.table({"text": ["a", "b"], name: COLUMNS[name]})))
    schema = inspect_input(ReadOptions((str(path),), keep_columns=(name,))).kept_schema
    outcomes = read_checked(path, keep_columns=(name,))
    kept = pa.array(
        [doc.columns[0] for doc in outcomes if isinstance(doc, Document)], schema.field(name).type
    )
    stored = pq.read_table(path).column(name).combine_chunks()
    plain = {"large": pa.string(), "enum": pa.string(), "nulls": pa.string()}.get(name, stored.type)
    assert kept.type == plain
    assert kept.equals(stored.cast(plain))


def test_values_that_do_not_fit_the_planned_type_are_dead(tmp_path: Path) -> None:
    numbers = pa.array([1, 2**63, None], pa.uint64())
    content = parquet_bytes(pa.table({"text": ["a", "b", "c"], "n": numbers}))
    kept = pa.schema([("n", pa.int64())])
    outcomes = read_unchecked(tmp_path / "a.parquet", content, kept=kept)
    assert reasons(outcomes) == ["ok", "column_type", "ok"]
    assert [doc.columns for doc in outcomes if isinstance(doc, Document)] == [(1,), (None,)]
    lists = parquet_bytes(pa.table({"text": ["a", "b"], "n": [[1], None]}))
    assert reasons(read_unchecked(tmp_path / "b.parquet", lists, kept=kept)) == ["column_type", "ok"]


def test_ids_from_a_column(tmp_path: Path) -> None:
    for name, values in {"int": [5, None, 2**63], "text": ["5", "", "9223372036854775808"]}.items():
        table = pa.table(
            {"text": ["a", "b", "c"], "id": pa.array(values, pa.uint64() if name == "int" else None)}
        )
        outcomes = read_unchecked(tmp_path / "a.parquet", parquet_bytes(table), id_column="id")
        assert ids(outcomes) == ["5", "a.parquet#1", "9223372036854775808"]
        assert reasons(outcomes) == ["ok", "missing_id", "ok"]


@pytest.mark.parametrize("dictionary", [True, False])
def test_text_that_is_not_utf8_is_a_dead_letter(tmp_path: Path, dictionary: bool) -> None:
    content = parquet_bytes(
        pa.table({"text": broken_strings([b"ok", b"b\xff", None])}), use_dictionary=dictionary
    )
    outcomes = read_unchecked(tmp_path / "a.parquet", content)
    assert reasons(outcomes) == ["ok", "invalid_encoding", "ok"]
    assert isinstance(outcomes[1], DeadLetter)
    assert (outcomes[1].text, outcomes[1].num_bytes) == ("b\ufffd", 2)


def test_several_columns_are_joined_and_a_large_text_is_dead(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", None, None, "x" * 50], "b": ["y", "y", None, "y"]})
    outcomes = read_unchecked(
        tmp_path / "a.parquet",
        parquet_bytes(table),
        text_columns=("a", "b"),
        max_document_bytes=51,
        on_missing_text="dead_letter",
    )
    assert texts(outcomes) == ["x\ny", "y"]
    assert reasons(outcomes) == ["ok", "ok", "missing_text", "too_large"]
    assert isinstance(outcomes[3], DeadLetter)
    assert outcomes[3].num_bytes == 52


def test_a_corrupt_file_is_a_dead_file(tmp_path: Path) -> None:
    good = parquet_bytes(pa.table({"text": [f"some row {row}" for row in range(1000)]}), row_group_size=100)
    for content in (
        b"",
        b"PAR1",
        good[:-1],
        good[: len(good) // 2],
        b"x" * 1000,
        good[:-20] + b"x" * 12 + good[-8:],
    ):
        (dead,) = read_unchecked(tmp_path / "a.parquet", content, split_bytes=100)
        assert isinstance(dead, DeadFile)
        assert (dead.reason, dead.num_documents) == ("damaged", 0)


def test_rows_before_a_corrupt_page_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [str(number) for number in rng.integers(10**15, size=3000)]
    content = bytearray(
        parquet_bytes(pa.table({"text": rows}), row_group_size=1000, compression="zstd", use_dictionary=False)
    )
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    *documents, dead = read_unchecked(tmp_path / "a.parquet", bytes(content))
    assert isinstance(dead, DeadFile)
    assert dead.num_documents == len(documents) >= 1000
    assert texts(documents) == rows[: len(documents)]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"other": ["a"]}), "missing_column"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "repeated_column"),
        (pa.table({"text": [1]}), "column_type"),
        (pa.table({"text": [b"a"]}), "column_type"),
    ],
)
def test_a_file_whose_columns_do_not_fit_is_a_dead_file(tmp_path: Path, table: pa.Table, reason: str) -> None:
    (dead,) = read_unchecked(tmp_path / "a.parquet", parquet_bytes(table))
    assert isinstance(dead, DeadFile)
    assert dead.reason == reason


def test_a_file_without_rows_has_no_documents(tmp_path: Path) -> None:
    content = parquet_bytes(pa.table({"text": pa.array([], pa.string())}))
    assert read_unchecked(tmp_path / "a.parquet", content, split_bytes=1) == []


def test_a_large_row_group_is_read_in_bounded_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.bytes(2500).hex() for _ in range(10_000)]  # 50 MB in one row group
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": rows, "other": rows}), path, row_group_size=10_000)
    del rows
    options = ReadOptions((str(path),))
    plan = ReadPlan(options, ("text",), pa.schema([]))
    before, arrow_peak = pa.total_allocated_bytes(), 0
    tracemalloc.start()  # what Arrow reads through a Python file is Python's memory
    for split in plan_splits([file_info(path)], options):
        for _ in read_split(split, plan):
            arrow_peak = max(arrow_peak, pa.total_allocated_bytes() - before)
    _, python_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrow_peak < 25_000_000
    assert python_peak < 25_000_000


def test_a_kept_struct_with_a_repeated_field_is_refused(tmp_path: Path) -> None:
    ones = pa.array([1, 2])
    nested = pa.ListArray.from_arrays([0, 1, 2], pa.StructArray.from_arrays([ones, ones], names=["a", "a"]))
    for index, column in enumerate((pa.StructArray.from_arrays([ones, ones], names=["a", "a"]), nested)):
        path = tmp_path / f"{index}.parquet"
        pq.write_table(pa.table({"text": ["x", "y"], "k": column}), path)
        assert "more than one field 'a'" in refused(path, keep_columns=("k",))
        (dead,) = read_unchecked(path, path.read_bytes(), kept=pa.schema([("k", pa.string())]))
        assert isinstance(dead, DeadFile)
        assert dead.reason == "repeated_column"


class _Keys(encryption.KmsClient):
    """A store of keys that hides nothing."""

    def __init__(self, _connection: Any) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, _master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, _master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def test_encrypted_columns_do_not_end_the_process(tmp_path: Path) -> None:
    """The footer is plain, and asking for the size of an encrypted column aborts."""
    how = encryption.EncryptionConfiguration(
        footer_key="footer", column_keys={"key": ["id"]}, plaintext_footer=True
    )
    factory = encryption.CryptoFactory(_Keys)
    secret = factory.file_encryption_properties(encryption.KmsConnectionConfig(), how)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["x", "y"]}), path, encryption_properties=secret)
    assert texts(read_checked(path, text_columns=("text",))) == ["x", "y"]
    (dead,) = read_checked(path, id_column="id")
    assert isinstance(dead, DeadFile)
    assert dead.reason == "encrypted"


def damaged_files(number: int) -> Iterator[bytes]:
    """Yields small files with some bytes of the footer or of the pages changed."""
    rows = pa.table({"text": ["a", "b"] * 50, "k": [[1.5, 2.5]] * 100, "n": range(100)})
    whole = [parquet_bytes(rows, **how) for how in ({}, {"write_page_index": True, "row_group_size": 40})]
    for seed in range(number):
        chance = random.Random(seed)
        data = bytearray(chance.choice(whole))
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        places = range(footer, len(data) - 8) if chance.random() < 0.7 else range(4, footer)
        for at in chance.choices(places, k=chance.choice((1, 2, 8))):
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        yield bytes(data)


def read_damaged_files(number: int, path: str) -> None:
    kept = pa.schema([("k", pa.list_(pa.float64()))])
    for data in damaged_files(number):
        Path(path).write_bytes(data)
        for _ in read_unchecked(Path(path), data, kept=kept):
            pass


@pytest.mark.slow
def test_no_damaged_file_ends_the_process(tmp_path: Path) -> None:
    """In a child, because Arrow calls ``abort`` where it should raise an error: one in 700 did."""
    path = str(tmp_path / "a.parquet")
    code = f"from {__name__} import read_damaged_files; read_damaged_files(1500, {path!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


_ZONED = pa.timestamp("s", "America/New_York")


@pytest.mark.parametrize(
    ("usual", "odd"),
    [
        (pa.timestamp("ms"), pa.array([1_700_000_000])),
        (pa.struct({"a": pa.int64()}), pa.array([{"a": 10, "z": 5}])),
        (pa.date32(), pa.array([1_700_000_000], pa.timestamp("s"))),
        (pa.bool_(), pa.array([7])),
        (pa.int64(), pa.array(["007"])),
        (pa.int64(), pa.array([7.0])),
        (pa.int64(), pa.array([True])),
        (pa.string(), pa.array([7])),
        (pa.timestamp("s"), pa.array([1], _ZONED)),
        (_ZONED, pa.array([1], pa.timestamp("s"))),
        (pa.float64(), pa.array([2**53 + 1])),
        (pa.float32(), pa.array([0.1])),
        (pa.int8(), pa.array([300])),
        (pa.timestamp("s"), pa.array([1], pa.timestamp("ms"))),
        (pa.decimal128(5, 1), pa.array([decimal.Decimal("1.25")])),
        (pa.list_(pa.bool_()), pa.array([[7]])),
        (pa.list_(pa.struct({"a": pa.int64()})), pa.array([[{"b": 1}]])),
        (pa.map_(pa.string(), pa.string()), pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))),
    ],
    ids=str,
)
def test_a_kept_value_does_not_change_its_meaning(tmp_path: Path, usual: pa.DataType, odd: pa.Array) -> None:
    """A file that was not looked at before work may have another type."""
    table = pa.table({"text": ["a", "b"], "k": pa.concat_arrays([odd, pa.nulls(1, odd.type)])})
    kept = pa.schema([("k", usual)])
    outcomes = read_unchecked(tmp_path / "a.parquet", parquet_bytes(table), kept=kept)
    assert reasons(outcomes) == ["column_type", "ok"]


@pytest.mark.parametrize(
    ("usual", "odd", "value"),
    [
        (pa.int64(), pa.array([7], pa.uint8()), 7),
        (pa.float64(), pa.array([2**53]), 2.0**53),
        (pa.float64(), pa.array([0.5], pa.float32()), 0.5),
        (pa.string(), pa.array(["x"]).cast(pa.dictionary(pa.int8(), pa.large_string())), "x"),
        (pa.binary(), pa.array([b"ab"], pa.binary(2)), b"ab"),
        (pa.timestamp("ms"), pa.array([1], pa.timestamp("s")), 1000),
        (pa.timestamp("us", "UTC"), pa.array([1], _ZONED), 1_000_000),
        (pa.list_(pa.int64()), pa.array([[1]], pa.list_(pa.int8(), 1)), [1]),
        (pa.struct({"a": pa.int64(), "z": pa.int64()}), pa.array([{"z": 5}]), {"a": None, "z": 5}),
        (pa.decimal128(9, 3), pa.array([decimal.Decimal("1.25")]), decimal.Decimal("1.250")),
        (
            pa.map_(pa.string(), pa.int64()),
            pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
            [("a", 1)],
        ),
    ],
    ids=str,
)
def test_a_kept_value_of_a_narrower_type_is_cast(
    tmp_path: Path, usual: pa.DataType, odd: pa.Array, value: Any
) -> None:
    content = parquet_bytes(pa.table({"text": ["a"], "k": odd}))
    (document,) = read_unchecked(tmp_path / "a.parquet", content, kept=pa.schema([("k", usual)]))
    assert isinstance(document, Document)
    assert document.columns == (value,)
    assert pa.array(document.columns, usual).type == usual


@pytest.mark.parametrize("kind", [pa.list_(pa.timestamp("ns"), 1), pa.map_(pa.int64(), pa.timestamp("ns"))])
def test_nanoseconds_inside_other_types_are_kept(tmp_path: Path, kind: pa.DataType) -> None:
    array = pa.array([[1]] if pa.types.is_fixed_size_list(kind) else [[(1, 1)]], kind)
    content = parquet_bytes(pa.table({"text": ["a"], "k": array}))
    (document,) = read_unchecked(tmp_path / "a.parquet", content, kept=pa.schema([("k", kind)]))
    assert isinstance(document, Document)
    assert pa.array(document.columns, kind) == array
