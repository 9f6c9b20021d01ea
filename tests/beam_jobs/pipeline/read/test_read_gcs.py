"""Reading gs:// through Beam's own client, from a storage of our own on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal.gcp import auth

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.inspect import inspect_input
from beam_jobs.pipeline.read.splits import plan_splits, read_split
from tests.support.runs.reading import COMPRESS, ids, read_checked, reasons, texts


class Storage(ThreadingHTTPServer):
    """Objects of one bucket by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StorageHandler)
        self.objects: dict[str, bytes] = {}


class StorageHandler(BaseHTTPRequestHandler):
    """The JSON interface, as far as listing and reading need it."""

    protocol_version = "HTTP/1.1"
    server: Storage

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        name = unquote(url.path.partition("/o/")[2])
        if url.path.endswith("/o"):
            prefix = query.get("prefix", [""])[0]
            items = [self._describe(key) for key in sorted(self.server.objects) if key.startswith(prefix)]
            self._send(200, json.dumps({"items": items}).encode())
        elif name not in self.server.objects:
            self._send(404, b'{"error": {"code": 404, "message": "No such object"}}')
        elif query.get("alt") == ["media"]:
            self._send_part(self.server.objects[name])
        else:
            self._send(200, json.dumps(self._describe(name)).encode())

    def _describe(self, name: str) -> dict[str, str]:
        size = str(len(self.server.objects[name]))
        return {
            "name": name,
            "bucket": "b",
            "size": size,
            "generation": "1",
            "updated": "2026-01-01T00:00:00Z",
        }

    def _send_part(self, data: bytes) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            self._send(416, b"")
            return
        part = data[int(first) : int(last) + 1 if last else None]
        self._send(206, part, f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")

    def _send(self, code: int, data: bytes, content_range: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Logs no request."""


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    # Without credentials Beam would look for a metadata server for half a minute.
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    with Storage() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fill(storage: Storage) -> list[str]:
    """Puts the same rows into every kind of file."""
    rows = [f"row {number} é" for number in range(2000)]
    out = io.BytesIO()
    pq.write_table(pa.table({"text": rows}), out, row_group_size=300)
    lines = "".join(f"{row}\n" for row in rows).encode()
    storage.objects |= {
        "d/x/a.txt": lines,
        "d/x/a.txt.zst": COMPRESS["zst"](lines),
        "d/a.csv.gz": COMPRESS["gz"](b"text\n" + lines),
        "d/a.parquet": out.getvalue(),
        "d/": b"",  # a folder, as some tools keep one
        "e/cut.txt.gz": COMPRESS["gz"](lines)[:-10],
    }
    return rows


def test_every_kind_of_file_is_found_and_read(storage: Storage) -> None:
    rows = fill(storage)
    summary = inspect_input(ReadOptions(("gs://b/d/**",)))
    assert [file.relative for file in summary.files] == ["a.csv.gz", "a.parquet", "x/a.txt", "x/a.txt.zst"]
    outcomes = read_checked("gs://b/d/**")
    assert texts(outcomes) == rows * 4
    assert [doc_id for doc_id in ids(outcomes) if fnmatch(doc_id, "*#0")] == [
        f"{file.relative}#0" for file in summary.files
    ]
    assert {outcome.source for outcome in outcomes} == {file.path for file in summary.files}


def test_patterns_mean_the_same_as_on_a_local_disk(storage: Storage) -> None:
    names = ("a.txt", "b\\c.txt", ".h.txt", "x/a.txt", "x/y/a.txt")
    storage.objects |= {f"d/{name}": b"x\n" for name in names}
    for pattern, matches in {
        "*.txt": ["a.txt", "b\\c.txt"],
        "**/a.txt": ["a.txt", "x/a.txt", "x/y/a.txt"],
    }.items():
        assert [
            file.relative for file in inspect_input(ReadOptions((f"gs://b/d/{pattern}",))).files
        ] == matches
    with pytest.raises(UsageError, match="No file matches"):
        inspect_input(ReadOptions(("gs://b/d/x?a.txt",)))


@pytest.mark.parametrize("on", ["local", "gs"])
def test_a_name_with_wildcards_is_found_as_it_stands(storage: Storage, tmp_path: Path, on: str) -> None:
    """Else ``a[1].txt`` would read another file, ``a1.txt``."""
    for name in ("a[1].txt", "a1.txt", "x[1]/b.txt", "x[1]/.c.txt", "x[1]/y/_d/e.txt", "x1/f.txt"):
        storage.objects[f"d/{name}"] = b"x\n"
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text("x\n")
    root = "gs://b/d" if on == "gs" else f"{tmp_path}/d"

    def found(pattern: str) -> list[tuple[str, str]]:
        files = inspect_input(ReadOptions((f"{root}/{pattern}",))).files
        return [(file.path.removeprefix(f"{root}/"), file.relative) for file in files]

    assert found("a[1].txt") == [("a[1].txt", "a[1].txt")]
    assert found("x[1]/") == [("x[1]/b.txt", "b.txt")]
    assert found("x[1]/b.txt") == [("x[1]/b.txt", "b.txt")]
    assert found("x[[]1]/*.txt") == [("x[1]/b.txt", "x[1]/b.txt")]
    assert found("x[1]/*.txt") == [("x1/f.txt", "x1/f.txt")]


def test_spans_of_remote_files_give_the_documents_of_the_whole(storage: Storage) -> None:
    rows = fill(storage)
    options = ReadOptions(("gs://b/d/x/a.txt", "gs://b/d/a.parquet"))
    summary = inspect_input(options)
    plan = summary.plan(options)
    told: list[int] = []
    splits = list(plan_splits(summary.files, options, 5000))
    assert len(splits) > 6
    outcomes = [outcome for split in splits for outcome in read_split(split, plan, told.append)]
    assert texts(outcomes) == rows * 2
    assert sum(told) == summary.total_bytes


def test_what_is_cut_or_gone_is_a_dead_file(storage: Storage) -> None:
    rows = fill(storage)
    options = ReadOptions(("gs://b/e/*", "gs://b/d/x/a.txt"))
    summary = inspect_input(options)
    del storage.objects["d/x/a.txt"]
    plan = summary.plan(options)
    *documents, cut, gone = (
        outcome for split in plan_splits(summary.files, options) for outcome in read_split(split, plan)
    )
    assert texts(documents) == rows[: len(documents)]
    assert reasons([cut, gone]) == ["truncated", "cannot_open"]
    assert isinstance(cut, DeadFile)
    assert cut.source == "gs://b/e/cut.txt.gz"


def test_nothing_matches(storage: Storage) -> None:
    fill(storage)
    for pattern in ("gs://b/d/*.jsonl", "gs://b/d/none.txt"):
        with pytest.raises(UsageError, match="No file matches"):
            inspect_input(ReadOptions((pattern,)))
