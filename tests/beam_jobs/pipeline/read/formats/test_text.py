"""Plain text, one document per line or per file, and the cutting into lines and splits."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.inspect import inspect_input
from beam_jobs.pipeline.read.splits import plan_splits, read_split
from beam_jobs.pipeline.read.types import FileSplit
from tests.support.examples import examples
from tests.support.runs.reading import COMPRESS, ids, read_checked, read_unchecked, reasons, texts


def expected_lines(content: bytes) -> list[tuple[int, bytes]]:
    """The definition: lines end with a line feed, one carriage return before it belongs to the end."""
    *complete, last = content.split(b"\n")
    found, offset = [], 0
    for line in complete:
        found.append((offset, line.removesuffix(b"\r")))
        offset += len(line) + 1
    return [*found, (offset, last)] if last else found


def test_lines_are_documents_named_by_their_offset(tmp_path: Path) -> None:
    outcomes = read_unchecked(tmp_path / "a.txt", b"one\r\n\ntw\ro\n\xc3\xa9")
    assert texts(outcomes) == ["one", "", "tw\ro", "é"]
    assert ids(outcomes) == ["a.txt#0", "a.txt#5", "a.txt#6", "a.txt#11"]
    assert {outcome.source for outcome in outcomes} == {str(tmp_path / "a.txt")}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\n\n", ["", ""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r", ["a\r"]),  # no line feed: the carriage return is text
        (b"a\r\r\n", ["a\r"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),  # a mark only at the beginning of the file
        ("a\u2028b\u0085c\x0bd\n".encode(), ["a\u2028b\u0085c\x0bd"]),  # line breaks of Unicode are text
        (b"a\0b\n", ["a\0b"]),
    ],
)
def test_what_ends_a_line(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert texts(read_unchecked(tmp_path / "a.txt", content)) == expected


def test_compressed_lines_are_named_by_their_number(tmp_path: Path) -> None:
    outcomes = read_unchecked(tmp_path / "a.txt.gz", COMPRESS["gz"](b"one\n\nthree\n"))
    assert ids(outcomes) == ["a.txt.gz#0", "a.txt.gz#1", "a.txt.gz#2"]


def test_invalid_bytes_are_one_dead_letter(tmp_path: Path) -> None:
    outcomes = read_unchecked(tmp_path / "a.txt", b"good\nb\xffd\nfine\n")
    assert reasons(outcomes) == ["ok", "invalid_encoding", "ok"]
    dead = outcomes[1]
    assert isinstance(dead, DeadLetter)
    assert (dead.doc_id, dead.stage, dead.text, dead.num_bytes) == ("a.txt#5", "read", "b\ufffdd", 3)
    assert dead.text_sha256 == hashlib.sha256(b"b\xffd").hexdigest()


LINE = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=6).map(str.encode),
    st.sampled_from([b"", b"\r", b"\xef\xbb\xbf", "é€𝄞".encode(), b"x" * 40]),
)
CONTENT = st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n", b""])), max_size=12).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


@settings(max_examples=examples(300), deadline=None)
@given(content=CONTENT, split_bytes=st.integers(1, 30))
def test_splits_of_any_size_give_the_documents_of_the_whole(content: bytes, split_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.txt")
        whole = read_unchecked(path, content)
        assert read_unchecked(path, content, split_bytes=split_bytes) == whole
    lines = expected_lines(content)
    assert [int(doc_id.partition("#")[2]) for doc_id in ids(whole)] == [offset for offset, _ in lines]
    for index, (outcome, (_, line)) in enumerate(zip(whole, lines, strict=True)):
        expected = line.removeprefix(b"\xef\xbb\xbf") if index == 0 else line
        if isinstance(outcome, Document):
            assert outcome.text.encode() == expected
        else:
            assert outcome.reason == "invalid_encoding"
            with pytest.raises(UnicodeDecodeError):
                expected.decode()


@settings(max_examples=examples(200), deadline=None)
@given(content=CONTENT, split_bytes=st.integers(1, 30), limit=st.integers(1, 10))
def test_lines_over_the_limit_are_measured_not_held(content: bytes, split_bytes: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcomes = read_unchecked(
            Path(folder, "a.txt"), content, split_bytes=split_bytes, max_document_bytes=limit
        )
    for outcome, (_, line) in zip(outcomes, expected_lines(content), strict=True):
        assert ("too_large" in reasons([outcome])) == (len(line) > limit)
        if isinstance(outcome, DeadLetter) and outcome.reason == "too_large":
            assert outcome.num_bytes == len(line)
            assert outcome.text_sha256 == hashlib.sha256(line).hexdigest()
            assert outcome.text == line.decode("utf-8", "replace")[:1000]


def test_the_head_of_a_large_document_has_1000_characters(tmp_path: Path) -> None:
    line = "é" * 5000
    outcomes = read_unchecked(tmp_path / "a.txt", f"{line}\nb\n".encode(), max_document_bytes=100)
    (large, small) = outcomes
    assert isinstance(large, DeadLetter)
    assert (large.reason, large.text, large.num_bytes) == ("too_large", "é" * 1000, 10_000)
    assert "10,000 bytes" in large.message
    assert texts([small]) == ["b"]


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n", b"\r\r\n"])
def test_of_a_large_line_only_the_line_end_is_not_counted(tmp_path: Path, end: bytes) -> None:
    for length in (9, 10, 11, 70_000):  # around the limit, and read in pieces
        line = b"x" * length + {b"\r": b"\r", b"\r\r\n": b"\r"}.get(end, b"")
        (outcome,) = read_unchecked(tmp_path / "a.txt", b"x" * length + end, max_document_bytes=10)
        if len(line) <= 10:
            assert texts([outcome]) == [line.decode()]
            continue
        assert isinstance(outcome, DeadLetter)
        assert (outcome.num_bytes, outcome.text_sha256) == (len(line), hashlib.sha256(line).hexdigest())


@pytest.mark.parametrize("split_bytes", [1, 7, 50_000, 10**6])
def test_bytes_told_add_up_to_the_file(tmp_path: Path, split_bytes: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"some line\n" * (20 if split_bytes < 10 else 40_000))
    options = ReadOptions((str(path),))
    summary = inspect_input(options)
    for split in plan_splits(summary.files, options, split_bytes):
        told: list[int] = []
        list(read_split(split, summary.plan(options), told.append))
        assert split.end is not None
        assert sum(told) == split.end - split.start


def test_whole_files_are_documents_named_by_their_path(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    (folder / "b.txt.bz2").write_bytes(COMPRESS["bz2"](b"three"))
    (folder / "c.txt").write_bytes(b"")
    (folder / "d.txt").write_bytes(b"x" * 30)
    outcomes = read_checked(f"{tmp_path}/**", whole_files=True, max_document_bytes=20)
    assert ids(outcomes) == ["deep/er/a.txt", "deep/er/b.txt.bz2", "deep/er/c.txt", "deep/er/d.txt"]
    assert texts(outcomes) == ["one\r\ntwo\n", "three", ""]
    assert isinstance(outcomes[3], DeadLetter)
    assert outcomes[3].text_sha256 == hashlib.sha256(b"x" * 30).hexdigest()
    assert outcomes[3].num_bytes == 30


def test_a_file_that_is_gone_or_shorter_than_planned_is_a_dead_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\nthree\n")
    options = ReadOptions((str(path),))
    summary = inspect_input(options)
    path.write_bytes(b"one\ntw")
    outcomes = list(read_split(FileSplit(summary.files[0], 0, 14), summary.plan(options)))
    assert texts(outcomes) == ["one"]
    (dead,) = outcomes[1:]
    assert isinstance(dead, DeadFile)
    assert (dead.source, dead.reason, dead.num_documents) == (str(path), "changed", 1)
    path.unlink()
    (gone,) = read_split(FileSplit(summary.files[0]), summary.plan(options))
    assert isinstance(gone, DeadFile)
    assert gone.reason == "cannot_open"
