"""Compressed files: read to the end of every member, and noticed where they were cut short."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from functools import cache
from pathlib import Path

import pytest
import zstandard

from beam_jobs.base.records import DeadFile, DeadLetter, Document
from tests.support.runs.reading import COMPRESS, csv_bytes, read_unchecked, reasons, texts

LINES = tuple(f"line {number} of some" for number in range(12))
FIRST, SECOND = ("".join(f"{line}\n" for line in part).encode() for part in (LINES[:5], LINES[5:]))


@cache
def random_lines(count: int) -> tuple[str, ...]:
    rng = random.Random(5)
    return tuple("".join(rng.choices("abcdefgh ", k=90)) for _ in range(count))


@cache
def make(name: str, compression: str, lines: tuple[str, ...]) -> bytes:
    if name == "txt":
        content = "".join(f"{line}\n" for line in lines).encode()
    elif name == "jsonl":
        content = "".join(f'{{"text": "{line}"}}\n' for line in lines).encode()
    else:
        content = csv_bytes([["text"], *([line] for line in lines)])
    return bytes(COMPRESS[compression](content))


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["txt", "jsonl", "csv"])
def test_every_compression_of_every_text_format(tmp_path: Path, name: str, compression: str) -> None:
    outcomes = read_unchecked(tmp_path / f"a.{name}.{compression}", make(name, compression, LINES))
    assert texts(outcomes) == [*LINES]
    assert [outcome.doc_id for outcome in outcomes if isinstance(outcome, Document)] == [
        f"a.{name}.{compression}#{number}" for number in range(len(LINES))
    ]


@pytest.mark.parametrize("compression", COMPRESS)
def test_all_members_are_read(tmp_path: Path, compression: str) -> None:
    content = b"".join(COMPRESS[compression](part) for part in (FIRST, b"", SECOND))
    assert texts(read_unchecked(tmp_path / f"a.txt.{compression}", content)) == [*LINES]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_cut_at_any_byte_is_noticed(tmp_path: Path, compression: str) -> None:
    """In the header, the data, the checksum, the second member: everywhere but exactly between members."""
    first, second = COMPRESS[compression](FIRST), COMPRESS[compression](SECOND)
    whole = first + second
    for cut in range(len(whole)):
        outcomes = read_unchecked(tmp_path / f"a.txt.{compression}", whole[:cut])
        found = texts(outcomes)
        assert found == [*LINES[: len(found)]]
        if cut == len(first):
            assert reasons(outcomes) == ["ok"] * 5
            continue
        dead = outcomes[-1]
        assert isinstance(dead, DeadFile), cut
        assert (dead.reason, dead.num_documents) == ("truncated", len(found))
        assert cut < len(first) or len(found) >= 5


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["txt", "jsonl", "csv"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_rows_before_a_cut_are_read(tmp_path: Path, name: str, compression: str, fraction: float) -> None:
    # bzip2 gives out nothing of a block of 900 KB before it has the whole of it.
    lines = random_lines(40_000 if compression == "bz2" else 5_000)
    whole = make(name, compression, lines)
    outcomes = read_unchecked(tmp_path / f"a.{name}.{compression}", whole[: int(len(whole) * fraction)])
    *documents, dead = outcomes
    assert isinstance(dead, DeadFile)
    assert (dead.reason, dead.num_documents) == ("truncated", len(documents))
    assert texts(documents) == [*lines[: len(documents)]]
    assert abs(len(documents) / len(lines) - fraction) < 0.3
    assert len(documents) > 0 or fraction == 0.1


@pytest.mark.parametrize("compression", COMPRESS)
def test_cut_in_the_checksum_all_rows_are_there_and_the_file_is_dead(
    tmp_path: Path, compression: str
) -> None:
    outcomes = read_unchecked(tmp_path / f"a.txt.{compression}", COMPRESS[compression](FIRST + SECOND)[:-1])
    if compression == "bz2":  # its last block cannot be told from a broken one without what follows
        assert isinstance(outcomes[-1], DeadFile)
    else:
        assert reasons(outcomes) == ["ok"] * len(LINES) + ["truncated"]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_wrong_checksum_or_wrong_data_is_a_damaged_file(tmp_path: Path, compression: str) -> None:
    whole = bytearray(COMPRESS[compression](FIRST))
    whole[-6 if compression == "gz" else -2] ^= 0xFF
    for content in (bytes(whole), b"no compressed data at all", COMPRESS[compression](FIRST) + b"garbage"):
        dead = read_unchecked(tmp_path / f"a.txt.{compression}", content)[-1]
        assert isinstance(dead, DeadFile)
        assert dead.reason == "damaged"


def test_gzip_padding_and_zstd_skippable_frames_are_no_damage(tmp_path: Path) -> None:
    padded = gzip.compress(FIRST) + b"\0" * 70_000 + gzip.compress(SECOND) + b"\0" * 512
    assert texts(read_unchecked(tmp_path / "a.txt.gz", padded)) == [*LINES]
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    frames = skippable + COMPRESS["zst"](FIRST) + skippable + COMPRESS["zst"](SECOND)
    assert texts(read_unchecked(tmp_path / "a.txt.zst", frames)) == [*LINES]


def test_zstd_without_sizes_and_checksums_is_read(tmp_path: Path) -> None:
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    content = stream.compress(FIRST + SECOND) + stream.flush()
    assert texts(read_unchecked(tmp_path / "a.txt.zst", content)) == [*LINES]
    assert reasons(read_unchecked(tmp_path / "a.txt.zst", content[:-1]))[-1] == "truncated"


@pytest.mark.parametrize("suffix", ["txt.gz", "txt.bz2", "txt.zst", "csv.zst", "jsonl.zst"])
def test_a_line_of_60_mb_is_measured_in_bounded_memory(tmp_path: Path, suffix: str) -> None:
    name, _, compression = suffix.partition(".")
    content = COMPRESS[compression]((b"text\n" if name == "csv" else b"") + b"\0" * 60_000_000 + b"\n")
    tracemalloc.start()
    (outcome,) = read_unchecked(tmp_path / f"a.{suffix}", content, max_document_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, DeadLetter)
    assert (outcome.reason, outcome.num_bytes) == ("too_large", 60_000_000)
    assert peak < (70_000_000 if compression == "zst" else 10_000_000)
