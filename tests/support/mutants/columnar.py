"""Changes Parquet, ORC and Avro files at random, in ways that look for a hole."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

_ROWS = 60
TEXTS = [f"row {row} " + "x" * (row % 7) for row in range(_ROWS)]
TABLE = pa.table(
    {
        "text": [None if row % 11 == 3 else text for row, text in enumerate(TEXTS)],
        "word": pa.array(["ab"[row % 2] * 3 for row in range(_ROWS)]),
        "n": pa.array([row * 7 % 13 for row in range(_ROWS)], pa.int32()),
        "f": pa.array([row / 3 for row in range(_ROWS)]),
        "ok": pa.array([row % 3 == 0 for row in range(_ROWS)]),
        "raw": pa.array([bytes([row]) * (row % 5) for row in range(_ROWS)]),
        "day": pa.array([row * 100 for row in range(_ROWS)], pa.date32()),
        "at": pa.array([row * 10**15 for row in range(_ROWS)], pa.timestamp("ns")),
        "s": [{"a": f"in {row}", "b": [row]} if row % 4 else None for row in range(_ROWS)],
        "l": [[row, None] * (row % 3) for row in range(_ROWS)],
    }
)
_SPECIAL = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


def mutant(kind: str, seed: int) -> bytes:
    """Returns a changed file; the seed decides which and how."""
    chance, writers = random.Random(seed), WRITERS[kind]
    data = bytearray(writers[seed % len(writers)]())
    # The end holds the description of all else in Parquet and ORC, the beginning in Avro.
    weights = {"parquet": (2, 1, 4), "orc": (2, 2, 4), "avro": (3, 2, 1)}[kind]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = _place(len(data), chance.choices(("head", "any", "tail"), weights)[0], chance)
        chance.choice(_CHANGES)(data, place, chance)
    return bytes(data)


def _place(size: int, where: str, chance: random.Random) -> int:
    near = min(size - 1, int(chance.expovariate(1 / 200)))
    return {"head": near, "any": chance.randrange(size), "tail": size - 1 - near}[where]


def _flip(data: bytearray, place: int, chance: random.Random) -> None:
    data[place] ^= 1 << chance.randrange(8)


def _replace(data: bytearray, place: int, chance: random.Random) -> None:
    data[place] = chance.choice((chance.randrange(256), *_SPECIAL))


def _fill(data: bytearray, place: int, chance: random.Random) -> None:
    size = min(chance.choice((2, 4, 8, 10)), len(data) - place)
    data[place : place + size] = chance.choice((b"\xff", b"\x00", b"\x80", b"\x7f")) * size


def _drop(data: bytearray, place: int, chance: random.Random) -> None:
    if len(data) > 64:
        del data[place : place + chance.choice((1, 1, 2, 16))]


def _insert(data: bytearray, place: int, chance: random.Random) -> None:
    data[place:place] = chance.randbytes(chance.choice((1, 1, 2, 8)))


def _copy(data: bytearray, place: int, chance: random.Random) -> None:
    begin, size = chance.randrange(len(data)), chance.choice((4, 16, 64))
    part = data[begin : begin + size]
    data[place : place + len(part)] = part


_CHANGES = (_flip, _flip, _replace, _replace, _fill, _drop, _insert, _copy)


def _parquet(**options: Any) -> Callable[[], bytes]:
    def write() -> bytes:
        out = io.BytesIO()
        pq.write_table(TABLE, out, row_group_size=25, **options)
        return out.getvalue()

    return write


def _orc(**options: Any) -> Callable[[], bytes]:
    def write() -> bytes:
        out = io.BytesIO()
        orc.write_table(TABLE, out, **options)
        return out.getvalue()

    return write


def _avro(codec: str) -> Callable[[], bytes]:
    kinds = {
        "text": ["null", "string"],
        "word": {"type": "enum", "name": "w", "symbols": ["aaa", "bbb"]},
        "n": "int",
        "f": "double",
        "ok": "boolean",
        "raw": "bytes",
        "day": {"type": "int", "logicalType": "date"},
        "at": {"type": "long", "logicalType": "timestamp-micros"},
        "s": ["null", {"type": "record", "name": "s", "fields": [{"name": "a", "type": "string"}]}],
        "l": {"type": "array", "items": ["null", "long"]},
    }
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": name, "type": kind} for name, kind in kinds.items()],
    }

    def write() -> bytes:
        out = io.BytesIO()
        rows = TABLE.set_column(7, "at", TABLE["at"].cast(pa.timestamp("us"))).to_pylist()
        fastavro.writer(out, schema, rows, codec, sync_interval=300, sync_marker=b"0123456789abcdef")
        return out.getvalue()

    return write


WRITERS: dict[str, tuple[Callable[[], bytes], ...]] = {
    "parquet": (
        _parquet(compression="none"),
        _parquet(compression="none", use_dictionary=False),
        _parquet(compression="none", use_dictionary=False, data_page_version="2.0", version="2.6"),
        _parquet(compression="snappy"),
        _parquet(compression="zstd"),
        _parquet(compression="gzip"),
        _parquet(compression="lz4"),
        _parquet(compression="brotli"),
        _parquet(compression="none", write_page_index=True, store_schema=False),
    ),
    "orc": (
        _orc(),
        _orc(dictionary_key_size_threshold=1.0),
        _orc(compression="zlib"),
        _orc(compression="snappy"),
        _orc(compression="zstd"),
        _orc(compression="lz4"),
        _orc(file_version="0.11"),
        _orc(stripe_size=1 << 10, batch_size=10, row_index_stride=10),
    ),
    "avro": tuple(map(_avro, ("null", "deflate", "bzip2", "xz"))),
}
