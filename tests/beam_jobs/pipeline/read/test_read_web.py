"""Reading ``hf://`` and ``https://``, from a server of our own on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfFileSystem, constants

from beam_jobs.base.config import ReadOptions
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.inspect import inspect_input
from beam_jobs.pipeline.read.splits import plan_splits, read_split
from beam_jobs.store import filesystem
from tests.support.cloud.fake_hub import FakeHub, serving_hub
from tests.support.runs.reading import COMPRESS, read_checked, reasons, texts

ROWS = [f"row {number} é" for number in range(900)]
LINES = "".join(f"{row}\n" for row in ROWS).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        HfFileSystem.clear_instance_cache()
        out = io.BytesIO()
        pq.write_table(pa.table({"text": ROWS}), out, row_group_size=300)
        server.files = {
            "README.md": b"a dataset",
            "data/a.txt": LINES,
            "data/b.txt.gz": COMPRESS["gz"](LINES),
            "data/deep/c.parquet": out.getvalue(),
        }
        yield server
        HfFileSystem.clear_instance_cache()


@pytest.mark.usefixtures("hub")
def test_files_of_a_dataset_are_found_by_pattern_and_read() -> None:
    for pattern, number in (("data/**", 3), ("**/*.parquet", 1), ("data/a.txt", 1), ("data/", 3)):
        outcomes = read_checked(f"hf://datasets/owner/name/{pattern}")
        assert texts(outcomes) == ROWS * number
    with pytest.raises(UsageError, match="No file matches"):
        inspect_input(ReadOptions(("hf://datasets/owner/name/none/*.txt",)))


@pytest.mark.parametrize("gives_parts", [True, False])
def test_addresses_are_read_in_parts_where_the_server_gives_some(hub: FakeHub, gives_parts: bool) -> None:
    hub.gives_parts = gives_parts
    options = ReadOptions(tuple(f"{hub.url}/{name}" for name in hub.files if name != "README.md"))
    summary = inspect_input(options)
    hub.busy = 2
    splits = list(plan_splits(summary.files, options, 5000))
    outcomes = [outcome for split in splits for outcome in read_split(split, summary.plan(options))]
    assert texts(outcomes) == ROWS * 3
    assert len(splits) == 4


@pytest.mark.parametrize("gives_parts", [True, False])
def test_an_address_whose_file_is_replaced_is_no_mixture(hub: FakeHub, gives_parts: bool) -> None:
    hub.gives_parts = gives_parts
    hub.files["a.txt"] = b"a" * 300_000
    with filesystem.open_file(f"{hub.url}/a.txt") as stream:
        stream.read(10)
        hub.files["a.txt"], hub.tag = b"b" * 300_000, '"f"'
        stream.seek(200_000)
        with pytest.raises(OSError, match="was replaced while it was read"):
            stream.read(10)


@pytest.mark.parametrize("root", ["hf://datasets/owner/name", "{url}"])
def test_what_may_not_be_read_is_said_before_work_or_is_a_dead_file(hub: FakeHub, root: str) -> None:
    options = ReadOptions((f"{root.format(url=hub.url)}/data/a.txt",))
    summary = inspect_input(options)
    hub.refused = True
    HfFileSystem.clear_instance_cache()
    outcomes = [o for s in plan_splits(summary.files, options) for o in read_split(s, summary.plan(options))]
    assert reasons(outcomes) == ["cannot_open"]
    with pytest.raises(UsageError, match=r"cannot be listed.*403"):
        inspect_input(options)


def test_an_address_names_one_file_and_holds_no_secret(hub: FakeHub) -> None:
    with pytest.raises(UsageError, match="names one file"):
        inspect_input(ReadOptions((f"{hub.url}/data/*.txt",)))
    for secret in (f"{hub.url}/a.txt?sig=hidden", "https://me:hidden@host/a.txt"):
        with pytest.raises(UsageError, match=r"would be stored with each row") as caught:
            inspect_input(ReadOptions((secret,)))
        assert "hidden" not in str(caught.value)
    assert filesystem.size_of(f"{hub.url}/none") is None
    for place in ("hf://datasets/owner/name/x", f"{hub.url}/x"):
        with pytest.raises(UsageError, match="can only be read"):
            filesystem.replace(place, b"")
