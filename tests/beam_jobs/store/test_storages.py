"""The same calls on every kind of storage, against servers where there are any: one winner, nothing lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.write.commit import commit
from beam_jobs.pipeline.write.moves import SENTINEL, move_shard, plan_commit, reserve_names
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.store import filesystem
from beam_jobs.store.dataset import open_run
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import check_output, claim
from model_bundle.base.objects import clients
from model_bundle.errors import MissingExtraError, ModelBundleError
from tests.support.cloud.fault_proxy import FaultProxy
from tests.support.cloud.object_servers import Storage, in_use
from tests.support.runs.descriptions import description
from tests.support.runs.jobs import PROJECT

SCHEMA = pa.schema([pa.field("doc_id", pa.string())])
SLOW = pytest.mark.slow
# Services say 400 or 403 of what has expired, and 429 or 503 of haste; the client repeats the latter.
BUSY = [(503, "SlowDown"), (429, "TooManyRequests"), (500, "InternalError")]


@pytest.fixture(
    scope="module",
    params=["local", "moto", *(pytest.param(kind, marks=SLOW) for kind in ("gs", "seaweed", "azurite"))],
)
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with in_use(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def place(storage: Storage, request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder of this test's own; faults end with it."""
    yield f"{storage.root}/{request.node.originalname}"
    storage.heal()


def options_of(place: str, attempt: str = "a") -> WriteOptions:
    return WriteOptions(output=f"{place}/out", run_id="run", attempt_id=attempt * 32, fail_job=False)


def stage(options: WriteOptions, *ids: str) -> Receipt:
    """Writes a staged shard of these documents."""
    shard = Shard(f"{options.output}/{options.run_id}/_staging", "embeddings", SCHEMA)
    shard.write(pa.RecordBatch.from_pydict({"doc_id": list(ids)}, schema=SCHEMA))
    return shard.close("float32")


def finish(options: WriteOptions, *shards: tuple[str, ...]) -> Any:
    """Stages, moves and commits."""
    entries = [stage(options, *ids) for ids in shards]
    plan = reserve_names(plan_commit(0, [*entries, sum(map(len, shards)), SENTINEL]), options)
    for element in plan.moves:
        move_shard(*element, options)
    return commit(plan, options, description())


def rows(place: str) -> list[str]:
    return sorted(open_run(f"{place}/out/run").to_table().column("doc_id").to_pylist())


def test_files_are_written_read_listed_and_removed(storage: Storage, place: str) -> None:
    names = ["a.txt", "b ü.txt", "x/c#1?.txt", "x/d*[e].txt", "x/y/f%20+&=.txt"]
    for name in names:
        filesystem.replace(f"{place}/{name}", name.encode())
    assert [filesystem.read_bytes(f"{place}/{name}") for name in names] == [n.encode() for n in names]
    assert filesystem.size_of(f"{place}/b ü.txt") == len("b ü.txt".encode())
    assert filesystem.list_files(f"{place}/x") == {f"{place}/{name}": len(name) for name in names[2:4]}
    assert filesystem.list_below(place, "y", "f%20+&=.txt") == ["x"]
    if storage.kind != "local":
        listed = filesystem.list_remote(f"{place}/")
        assert sorted(entry.path for entry in listed) == sorted(f"{place}/{name}" for name in names)
        assert [e.path for e in filesystem.list_remote(f"{place}/x/c")] == [f"{place}/x/c#1?.txt"]
    filesystem.delete(f"{place}/a.txt")
    filesystem.delete(f"{place}/a.txt")
    filesystem.delete_folder(f"{place}/x")
    filesystem.delete_folder(f"{place}/x")
    assert not filesystem.exists(f"{place}/a.txt")
    assert filesystem.read_bytes(f"{place}/a.txt") is None
    assert filesystem.list_files(f"{place}/x") == {}
    assert list(filesystem.list_files(place)) == [f"{place}/b ü.txt"]


def test_an_object_that_stands_for_a_folder_is_no_file(storage: Storage, place: str) -> None:
    """Consoles and Hadoop make such objects: empty, with a slash at the end of the key."""
    if storage.kind != "s3 (Moto)":
        pytest.skip("others make a folder of it")
    import boto3

    folder = place.removeprefix("s3://data/")
    client = boto3.client("s3")
    for name in ("", "x/", "x/y/"):
        client.put_object(Bucket="data", Key=f"{folder}/{name}", Body=b"")
    client.close()
    for name in ("x/a", "x/y/b"):
        filesystem.replace(f"{place}/{name}", b"1")
    assert sorted(e.path for e in filesystem.list_remote(f"{place}/")) == [f"{place}/x/a", f"{place}/x/y/b"]
    assert list(filesystem.list_files(f"{place}/x")) == [f"{place}/x/a"]


def test_a_stream_can_seek_and_ends_where_the_file_ends(place: str) -> None:
    data = os.urandom(3_000_000)
    with contextlib.closing(filesystem.open_new(f"{place}/file")) as stream:
        for start in range(0, len(data), 999_999):
            stream.write(data[start : start + 999_999])
    with filesystem.open_file(f"{place}/file") as stream:
        assert stream.read() == data
        for start, size in ((7, 100_000), (2_999_990, 100), (0, 5), (5, 70_000)):
            stream.seek(start)
            assert stream.read(size) == data[start : start + size]
        assert stream.seek(0, os.SEEK_END) == len(data)
        assert stream.read(1) == b""
    assert filesystem.size_of(f"{place}/none") is None
    with pytest.raises(FileNotFoundError):
        filesystem.sha256_of(f"{place}/none")


def test_one_of_many_creators_wins_and_no_change_is_lost(place: str) -> None:
    started = Barrier(8)

    def create(number: int) -> bool:
        started.wait()
        return filesystem.create_if_absent(f"{place}/one", str(number).encode())

    def add(_: int) -> None:
        filesystem.update(f"{place}/sum", lambda data: str(int(data or 0) + 1).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
        list(pool.map(add, range(24)))
    assert won.count(True) == 1
    assert filesystem.read_bytes(f"{place}/one") == str(won.index(True)).encode()
    assert filesystem.read_bytes(f"{place}/sum") == b"24"


def test_two_attempts_leave_one_run(place: str) -> None:
    first, second = options_of(place, "a"), options_of(place, "b")
    check_output(first)
    late = stage(first, "a", "b")  # this worker stands still from here
    check_output(second)
    finish(second, ("a",), ("b",))
    before = filesystem.read_bytes(f"{place}/out/run/manifest.json")
    with pytest.raises(Exception, match=r"finished run of another job|claimed"):
        move_shard(late, "embeddings/embeddings-00000-of-00001.parquet", first)
    assert filesystem.read_bytes(f"{place}/out/run/manifest.json") == before
    assert rows(place) == ["a", "b"]
    with pytest.raises(UsageError, match="holds a finished run"):
        check_output(options_of(place, "c"))


def test_a_whole_job_that_runs_again_changes_nothing(place: str) -> None:
    options = options_of(place)
    claim(options)
    first = finish(options, ("a", "b"), ("c",))
    again = finish(options, ("c", "b"), ("a",))
    assert again == first
    found = filesystem.list_files(f"{place}/out/run/embeddings")
    assert sorted(found) == sorted(f"{place}/out/run/{file.path}" for file in first.files)
    assert rows(place) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("code", "name"), [pytest.param(*BUSY[0]), *(pytest.param(*b, marks=SLOW) for b in BUSY[1:])]
)
def test_a_busy_storage_is_asked_again(storage: Storage, place: str, code: int, name: str) -> None:
    options = options_of(f"{place}{code}")
    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        storage.fail(f"^{method} ", code, name, times=2)
    if storage.kind.startswith("s3"):  # which answers a copy at once, and may say later that it failed
        storage.fail("^PUT .*/embeddings/", 200, "InternalError")
    claim(options)
    finish(options, ("a",), ("b", "c"))
    assert rows(f"{place}{code}") == ["a", "b", "c"]


def test_a_file_that_is_replaced_while_it_is_read_is_no_mixture(storage: Storage, place: str) -> None:
    if storage.kind in ("local", "gs"):
        pytest.skip("an open local file stays what it was; Beam reads Google's objects")
    filesystem.replace(f"{place}/file", b"a" * 300_000)
    with filesystem.open_file(f"{place}/file") as stream:
        stream.read(10)
        filesystem.replace(f"{place}/file", b"b" * 300_000)
        with pytest.raises(OSError, match="was replaced while it was read"):
            stream.read()


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (("if-none-match",), "created an object that was there already"),
        pytest.param(("if-match",), "does not compare versions", marks=SLOW),
    ],
)
def test_a_storage_without_conditions_is_refused(
    storage: Storage, place: str, headers: tuple[str, ...], message: str
) -> None:
    if not isinstance(storage.server, FaultProxy):
        pytest.skip("its conditions are part of the file system, or of every bucket")
    if storage.kind.startswith("s3"):  # Azure signs the conditions
        storage.fail("^PUT .*probe", 0, times=99, dropped=headers)
        with pytest.raises(ModelBundleError, match=f"cannot hold runs.*{message}"):
            check_output(options_of(place))
        storage.heal()
    storage.fail("^PUT .*probe", 501, "NotImplemented", times=99)
    with pytest.raises(ModelBundleError, match="refuses conditional writes"):
        check_output(options_of(place))
    assert filesystem.list_remote(f"{place}/") == []


def test_credentials_that_do_not_suffice_are_said_in_one_message(storage: Storage, place: str) -> None:
    if not isinstance(storage.server, FaultProxy):
        pytest.skip("local files have owners; Google's refusals are tested with its client")
    storage.fail(".", 403, "AccessDenied", times=99)
    with pytest.raises(UsageError, match=r"cannot be written: .*AccessDenied") as caught:
        check_output(options_of(place))
    assert "\n" not in str(caught.value)
    for code, kind in (("AccessDenied", True), ("AuthenticationFailed", False)):
        storage.heal()
        storage.fail(".", 403, code, times=99)
        with pytest.raises(OSError, match=code) as refused:
            filesystem.read_bytes(f"{place}/x")  # a dead file, or the end of the job
        assert isinstance(refused.value, PermissionError) is kind
    storage.heal()
    assert filesystem.list_remote(f"{place}/") == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    storage: Storage, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(storage.server, FaultProxy):
        pytest.skip("needs no further package")
    clients._client.cache_clear()
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    for call in (filesystem.read_bytes, filesystem.list_remote, filesystem.open_new):
        with pytest.raises(MissingExtraError, match=r"pip install 'beam-embedding-jobs\[(s3|azure)\]'"):
            call(f"{place}/x")
    with pytest.raises(MissingExtraError, match="pip install"):
        check_output(options_of(place))


def test_a_forked_process_is_told_so_and_does_not_hang(storage: Storage, place: str) -> None:
    if not isinstance(storage.server, FaultProxy):
        pytest.skip("has no threads of its own")
    filesystem.read_bytes(f"{place}/x")
    parent = clients._first_process()
    clients._first_process.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: parent + 1)
            clients._first_process()
        with pytest.raises(OSError, match="forked process"):
            filesystem.read_bytes(f"{place}/x")
    finally:
        clients._first_process.cache_clear()


def test_a_url_of_the_lake_names_the_same_files(storage: Storage, place: str) -> None:
    if storage.kind != "azure (Azurite)":
        pytest.skip("abfss:// is Azure's")
    filesystem.replace(f"{place}/a/x", b"1")
    lake = place.replace("az://data", "abfss://data@devstoreaccount1.dfs.core.windows.net")
    assert [entry.path for entry in filesystem.list_remote(f"{lake}/a/")] == [f"{lake}/a/x"]
    assert filesystem.read_bytes(f"{lake}/a/x") == b"1"
    with pytest.raises(ModelBundleError, match="CONTAINER@ACCOUNT"):
        filesystem.read_bytes("abfss://data/x")


@SLOW
def test_an_uploader_that_is_killed_leaves_no_file(storage: Storage, place: str) -> None:
    """Nor does it keep another attempt from finishing."""
    if storage.kind in ("local", "gs"):
        pytest.skip("a staged local file is there, without a receipt; Google's uploads are Beam's")
    code = (
        "import sys, os\n"
        "from beam_jobs.store import filesystem\n"
        "stream = filesystem.open_new(sys.argv[1])\n"
        "for _ in range(20): stream.write(os.urandom(1 << 20))\n"
        "print('half', flush=True)\n"
        "sys.stdin.read()\n"
    )
    options = options_of(place)
    claim(options)
    path = f"{place}/out/run/_staging/embeddings-1.parquet"
    with subprocess.Popen(
        [sys.executable, "-c", code, path],
        env=os.environ | storage.environment | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert not filesystem.exists(path)
    finish(options, ("a",))
    assert rows(place) == ["a"]


@SLOW
def test_many_files_are_listed_whole_although_pages_are_slow(storage: Storage, place: str) -> None:
    if storage.kind != "s3 (SeaweedFS)":
        pytest.skip("too slow to fill, or without pages")
    store, _ = clients.located(place)
    data = memoryview(b"x")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.put(f"{place.rpartition('/')[2]}/{n:06}", data), range(20_000)))
    storage.fail("prefix=", 0, times=9999, seconds=0.2)
    found = filesystem.list_remote(f"{place}/")
    assert len({entry.path for entry in found}) == 20_000
