"""Files of a run: whole or absent, moved once, and never by a pattern."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from beam_jobs.store import filesystem

# Legal in a file name, wildcards in a pattern.
ODD_FOLDERS = ["plain", "a*b", "a?b", "out[1]", "[!x]", "with space", "ünï", "a#b", "100%", "back\\slash"]


@pytest.fixture(params=ODD_FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    # What a pattern would find in the odd folder's place.
    for decoy in ("aXb", "out1", "y"):
        (tmp_path / decoy).mkdir()
        (tmp_path / decoy / "file").write_bytes(b"decoy")
    path: Path = tmp_path / request.param
    path.mkdir()
    return path


def test_names_are_no_patterns(folder: Path) -> None:
    path = str(folder / "file")
    assert filesystem.size_of(path) is None
    assert filesystem.read_bytes(path) is None
    assert not filesystem.exists(path)
    filesystem.replace(path, b"mine")
    assert filesystem.size_of(path) == 4
    assert filesystem.read_bytes(path) == b"mine"
    assert filesystem.list_files(str(folder)) == {path: 4}
    filesystem.move(path, str(folder / "deep/er/file"), 4)
    assert filesystem.list_files(str(folder / "deep/er")) == {str(folder / "deep/er/file"): 4}
    filesystem.delete(str(folder / "deep/er/file"))
    filesystem.delete_folder(str(folder))
    assert not folder.exists()
    assert len([*folder.parent.glob("*/file")]) == 3


def test_what_is_gone_can_be_deleted(tmp_path: Path) -> None:
    filesystem.delete(str(tmp_path / "none"))
    filesystem.delete_folder(str(tmp_path / "none"))
    assert filesystem.list_files(str(tmp_path / "none")) == {}


def test_a_new_file_comes_with_its_folders_and_is_written_as_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "a/b/data.gz")
    stream = filesystem.open_new(path)
    stream.write(b"not compressed")
    filesystem.close_safely(stream, path)
    assert filesystem.read_bytes(path) == b"not compressed"


def test_replacing_leaves_the_old_content_where_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        filesystem.replace(str(path), b"new")
    assert [*tmp_path.iterdir()] == [path]  # nothing half-written beside it


def test_of_many_creators_one_wins_and_readers_see_it_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "manifest.json")
    contents = [bytes([i]) * 100_000 for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = [*pool.map(lambda data: filesystem.create_if_absent(path, data), contents)]
    assert sum(won) == 1
    assert filesystem.read_bytes(path) == contents[won.index(True)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


def test_creation_works_on_file_systems_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    path = str(tmp_path / "manifest.json")
    assert filesystem.create_if_absent(path, b"first")
    assert not filesystem.create_if_absent(path, b"second")
    assert filesystem.read_bytes(path) == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


def test_a_move_may_be_repeated(tmp_path: Path) -> None:
    source, target = tmp_path / "_staging/x", tmp_path / "embeddings/0"
    filesystem.replace(str(source), b"rows")
    for _ in range(3):
        filesystem.move(str(source), str(target), 4)
        assert target.read_bytes() == b"rows"
        assert not source.exists()


def test_a_move_replaces_what_an_earlier_attempt_left_even_of_equal_size(tmp_path: Path) -> None:
    source, target = tmp_path / "new", tmp_path / "target"
    source.write_bytes(b"new!")
    target.write_bytes(b"old!")
    filesystem.move(str(source), str(target), 4)
    assert target.read_bytes() == b"new!"


@pytest.mark.parametrize(
    ("source", "target"), [(None, None), (b"cut", None), (b"cut", b"whole"), (None, b"x")]
)
def test_a_move_of_what_is_not_whole_fails(
    tmp_path: Path, source: bytes | None, target: bytes | None
) -> None:
    for name, content in (("source", source), ("target", target)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(FileNotFoundError, match="with 5 bytes, found"):
        filesystem.move(str(tmp_path / "source"), str(tmp_path / "target"), 5)


def test_two_moves_at_once_are_one(tmp_path: Path) -> None:
    for number in range(30):
        source, target = tmp_path / f"s{number}", tmp_path / f"t{number}"
        source.write_bytes(b"rows")
        move = partial(filesystem.move, str(source), str(target))
        with ThreadPoolExecutor(4) as pool:
            [*pool.map(move, [4] * 4)]
        assert target.read_bytes() == b"rows"
