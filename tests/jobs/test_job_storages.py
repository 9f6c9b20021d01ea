"""Whole jobs on every storage: the rows, counts and manifest of a local job, and what faults leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.report.__main__ import main as report
from beam_jobs.runs.__main__ import main as runs
from beam_jobs.search.__main__ import main as search
from beam_jobs.store import filesystem
from beam_jobs.store.dataset import open_run
from beam_jobs.store.manifest import RunManifest
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.transfer import push_bundle
from tests.support.cloud.fault_proxy import FaultProxy
from tests.support.cloud.object_servers import Storage, in_use
from tests.support.runs.jobs import Run, capture, run_job, vectors_of

pytestmark = [
    pytest.mark.slow,
    # Google's client leaves connections to the garbage collector after a refusal.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
TEXTS = [f"a {'very ' * (number % 5)}short text, number {number}" for number in range(40)]
# What differs between two jobs of the same settings: who, when, where, and how fast.
OWN = {
    *("attempt_id", "started_at", "finished_at", "config", "workers", "timeline", "bundle", "previous"),
    *("counts", "files"),  # compared below
}


@pytest.fixture(scope="module", params=["gs", "seaweed", "azurite"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder = tmp_path_factory.mktemp(request.param)
    with in_use(request.param, folder) as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEAM_JOBS_CACHE", str(folder / "cache"))
        yield found


@pytest.fixture
def place(storage: Storage, request: pytest.FixtureRequest) -> Iterator[str]:
    yield f"{storage.root}/{request.node.originalname}"
    storage.heal()


def lines(texts: list[str]) -> bytes:
    records = ({"id": f"{number:03}", "text": text} for number, text in enumerate(texts))
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write_input(place: str, texts: list[str]) -> str:
    """Writes two files and a mark, and returns their pattern."""
    half = len(lines(texts)) // 2
    cut = lines(texts).index(b"\n", half) + 1
    filesystem.replace(f"{place}/in/a.jsonl", lines(texts)[:cut])
    filesystem.replace(f"{place}/in/b/c.jsonl", lines(texts)[cut:])
    filesystem.replace(f"{place}/in/_SUCCESS", b"")
    return f"{place}/in/**/*.jsonl"


def job(place: str, bundle: Any, *more: str, run_id: str = "run") -> Run:
    flags = ("--input", f"{place}/in/**/*.jsonl", "--id_column", "id", *more)
    return run_job(f"{place}/out", bundle, *flags, run_id=run_id)


def manifest_of(place: str, run_id: str = "run") -> RunManifest:
    path = f"{place}/out/{run_id}/manifest.json"
    data = filesystem.read_bytes(path)
    assert data is not None
    return RunManifest.from_bytes(data, path)


def rows_of(place: str, run_id: str = "run") -> dict[str, Any]:
    table = open_run(f"{place}/out/{run_id}").to_table()
    return dict(zip(table.column("doc_id").to_pylist(), vectors_of(table), strict=True))


def facts_of(manifest: RunManifest) -> Any:
    """Returns counts, and files with their rows: the place of the input is part of each row."""
    counts = {name: value for name, value in manifest.counts.model_dump().items() if name.startswith("num_")}
    return counts, [(file.path, file.kind, file.num_rows) for file in manifest.files]


def command(main: Any, *argv: str) -> str:
    with capture() as (stdout, stderr):
        code = main(list(argv))
    assert code == 0, stderr.getvalue()
    return str(stdout.getvalue())


def test_a_night_after_another_is_that_of_a_local_disk(place: str, tmp_path: Path, tiny_bundle: Path) -> None:
    url, _ = push_bundle(str(tiny_bundle), f"{place}/bundles")
    pinned = f"{url}@sha256:{ModelBundle.open(tiny_bundle).digest}"
    changed = [*TEXTS[:30], "another text", *TEXTS[31:]]
    for at, bundle in ((str(tmp_path), str(tiny_bundle)), (place, pinned)):
        write_input(at, TEXTS)
        first = job(at, bundle, run_id="one")
        assert first.exit_code == 0, first.stderr
        write_input(at, changed)
        second = job(at, bundle, "--previous", "latest", run_id="two")
        assert second.exit_code == 0, second.stderr
    for run_id in ("one", "two"):
        ours, local = manifest_of(place, run_id), manifest_of(str(tmp_path), run_id)
        assert ours.model_dump(exclude=OWN) == local.model_dump(exclude=OWN)
        assert facts_of(ours) == facts_of(local)
        rows, expected = rows_of(place, run_id), rows_of(str(tmp_path), run_id)
        assert rows.keys() == expected.keys()
        assert all(np.array_equal(rows[name], expected[name]) for name in rows)
    assert manifest_of(place, "two").counts.num_reused == len(TEXTS) - 1
    assert json.loads(filesystem.read_bytes(f"{place}/out/latest.json") or b"")["run_id"] == "two"

    assert {line.split()[0] for line in command(runs, f"{place}/out", "list").splitlines()[1:]} == {
        "one",
        "two",
    }
    command(runs, f"{place}/out", "validate")
    assert command(report, f"{place}/out").strip() == f"{place}/out/two/report.html"
    found = command(search, f"{place}/out", "--query", "another text", "--prompt_text", "")
    assert "030" in found
    command(runs, f"{place}/out", "delete", "--keep", "1", "--yes")
    assert not [e for e in filesystem.list_remote(f"{place}/out/") if "/one/" in e.path]
    assert len(rows_of(place, "two")) == len(TEXTS)


def test_credentials_that_end_in_mid_run_lose_nothing(
    storage: Storage, place: str, tiny_bundle: Path
) -> None:
    """Wherever they end, there is no manifest; the same command with new ones completes the run."""
    if not isinstance(storage.server, FaultProxy):
        pytest.skip("Google's client asks for new tokens by itself")
    for number, pattern in enumerate(
        ("^PUT .*/_staging/embeddings-|^POST .*/_staging/embeddings-", "^PUT .*manifest.json")
    ):
        at = f"{place}/{number}"
        write_input(at, TEXTS)
        storage.fail(pattern, 400, "ExpiredToken", times=9999)
        failed = job(at, tiny_bundle)
        assert failed.exit_code not in (0, 130)
        assert "parquet: ExpiredToken: injected" in failed.stderr or "json: ExpiredToken" in failed.stderr
        assert "Generic" not in failed.stderr
        assert filesystem.read_bytes(f"{at}/out/run/manifest.json") is None
        storage.heal()
        resumed = job(at, tiny_bundle)
        assert resumed.exit_code == 0, resumed.stderr
        assert sorted(rows_of(at)) == [f"{number:03}" for number in range(len(TEXTS))]
        command(runs, f"{at}/out/run", "validate")


def test_a_storage_that_is_busy_all_the_time_is_only_slow(
    storage: Storage, place: str, tiny_bundle: Path
) -> None:
    write_input(place, TEXTS)
    for number, method in enumerate(("GET", "PUT", "HEAD", "POST", "DELETE")):
        storage.fail(f"^{method} ", (503, 429)[number % 2], "SlowDown", times=3)
    found = job(place, tiny_bundle)
    assert found.exit_code == 0, found.stderr
    assert len(rows_of(place)) == len(TEXTS)


def test_what_is_wrong_is_said_before_anything_is_written(
    place: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    write_input(place, TEXTS[:2])
    before = filesystem.list_remote(f"{place}/")
    for flags in (
        ["--input", f"{place}/none/*.jsonl", "--output", f"{place}/out"],
        ["--input", f"{place}/in/**", "--output", "ftp://host/out"],
        ["--input", f"{place}/in/**", "--output", "https://host/out"],
        ["--input", "s3://key:secret@bucket/x.jsonl", "--output", str(tmp_path)],
        ["--input", f"{place}/in/**", "--output", f"{place}/out", "--bundle", f"{place}/nobundle"],
    ):
        done = run_job("unused", tiny_bundle, *flags)
        assert done.exit_code == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "secret@" not in done.stderr
    assert sorted(filesystem.list_remote(f"{place}/")) == sorted(before)
