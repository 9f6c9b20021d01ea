"""Changed Parquet, ORC and Avro files: rows or a dead file each, whatever happens to the decoding process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from beam_jobs.base.records import DeadFile
from beam_jobs.errors import JobError
from beam_jobs.pipeline.read.formats import orc, orc_child
from tests.support.examples import NIGHTLY
from tests.support.mutants.columnar import TABLE, TEXTS, WRITERS, mutant
from tests.support.runs.jobs import PROJECT
from tests.support.runs.reading import read_unchecked, reasons, texts

FAST = 40
NUM_MUTANTS = 5_000 if os.environ.get(NIGHTLY) == "yes" else 200
DAMAGED = PROJECT / "tests/data/damaged"
KEPT = pa.schema([field for field in TABLE.schema if field.name != "text"])
DEAD = {
    "damaged",
    "truncated",
    "unsupported_codec",
    "missing_column",
    "column_type",
    "repeated_column",
    "encrypted",
}


def read_mutants(kind: str, numbers: range, folder: Path) -> Counter[str]:
    """Reads changed files; one that ended this process would be known by the number in ``folder``."""
    found: Counter[str] = Counter()
    for number in numbers:
        (folder / "number").write_text(f"{kind} {number}")
        kept = KEPT if number % 2 else None
        outcomes = read_unchecked(folder / f"a.{kind}", mutant(kind, number), kept=kept)
        dead = [one for one in outcomes if isinstance(one, DeadFile)]
        assert len(dead) <= 1
        assert {one.reason for one in dead} <= DEAD
        found["dead" if dead else "changed" if texts(outcomes) != TEXTS else "same"] += 1
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_a_changed_file_is_read_or_is_a_dead_file(kind: str, tmp_path: Path) -> None:
    assert read_mutants(kind, range(FAST), tmp_path).total() == FAST


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", WRITERS)
def test_many_changed_files(kind: str, tmp_path: Path) -> None:
    found = read_mutants(kind, range(FAST, FAST + NUM_MUTANTS), tmp_path)
    assert min(found["dead"], found["changed"] + found["same"]) > NUM_MUTANTS // 100


@pytest.mark.parametrize("name", ["segmentation_fault", "gigabytes", "names_not_utf8"])
def test_recorded_files_are_dead_files(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(orc, "memory_bytes", lambda: 0)
    content = (DAMAGED / f"{name}.orc").read_bytes()
    assert reasons(read_unchecked(tmp_path / "a.orc", content))[-1] == "damaged"
    assert reasons(read_unchecked(tmp_path / "b.orc", content, kept=KEPT))[-1] == "damaged"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[orc._Server]:
    """A server of its own, ended after the test."""
    server = orc._Server()
    monkeypatch.setattr(orc, "_server", server)
    yield server
    server.end()


def decoded(
    does: str, path: Path, monkeypatch: pytest.MonkeyPatch, *, function: str = "_send_found"
) -> list[str]:
    """Reads a good file with a decoder that does something else first."""
    path.write_bytes(WRITERS["orc"][0]())
    patch = f"def changed(*given): {does}; old(*given)\nold, child.{function} = child.{function}, changed"
    start = (
        f"import os, sys, ctypes\nfrom {orc_child.__name__.rpartition('.')[0]} import orc_child as child\n"
    )
    monkeypatch.setattr(orc, "_START", f"{start}{patch}\nchild.main(sys.argv[1])")
    return sorted(set(reasons(read_unchecked(path, path.read_bytes()))))


@pytest.mark.parametrize(
    "does", ["ctypes.string_at(0)", "os._exit(0)", "bytearray(1 << 50)", "open('/etc/passwd')"]
)
@pytest.mark.usefixtures("server")
def test_what_a_process_may_not_do_costs_the_file(
    does: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert decoded(does, tmp_path / "a.orc", monkeypatch) == ["damaged"]


@pytest.mark.usefixtures("server")
def test_a_process_that_others_end_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=r"was ended \(Killed\).*then start the job again"):
        decoded("os.kill(os.getpid(), 9)", tmp_path / "a.orc", monkeypatch, function="_decode")


def test_a_server_that_has_ended_is_started_again(
    server: orc._Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(2):
        assert decoded("pass", tmp_path / "a.orc", monkeypatch) == ["ok"]
        server._running[0][0].kill()
        server._running[0][0].wait()
