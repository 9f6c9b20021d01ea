"""Patterns: what they match, and that nothing is left out without a word."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.pipeline.read.files.patterns import match_pattern
from beam_jobs.pipeline.read.files.wildcards import pattern_regex
from tests.support.examples import examples
from tests.support.runs.reading import ids, read_checked, reasons, refused


def fill(folder: Path, *names: str) -> None:
    """Writes files of one line, which is their name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")


def found(pattern: Path | str) -> list[str]:
    """Returns the relative paths of a pattern's files."""
    return [file.relative for file in match_pattern(str(pattern))]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.txt", {"a.txt", "b\\c.txt", "[1].txt"}),
        ("?.txt", {"a.txt"}),
        ("x?a.txt", set()),
        ("*/a.txt", {"x/a.txt"}),
        ("**/a.txt", {"a.txt", "x/a.txt", "x/y/a.txt"}),
        ("x/**", {"x/a.txt", "x/y/a.txt"}),
        ("**y/*", {"x/y/a.txt"}),
        ("x**.txt", {"x/a.txt", "x/y/a.txt"}),
        (".*.txt", {".h.txt"}),
        (".*/**", {".d/a.txt"}),
        ("**/.*", {".h.txt", "x/.i.txt"}),
        ("[ab].txt", {"a.txt"}),
        ("[!b].txt", {"a.txt"}),
        ("[!a].txt", set()),
        ("[z-a].txt", set()),
        ("[].txt", set()),
        ("[[]*", {"[1].txt"}),
        ("x[/]a.txt", set()),
    ],
)
def test_what_patterns_match(tmp_path: Path, pattern: str, matches: set[str]) -> None:
    names = ("a.txt", "b\\c.txt", "[1].txt", ".h.txt", "x/a.txt", "x/y/a.txt", "x/.i.txt", ".d/a.txt")
    fill(tmp_path, *names)
    assert {name for name in names if pattern_regex(pattern).fullmatch(name)} == matches
    if matches:
        relative = {os.path.relpath(file.path, tmp_path) for file in match_pattern(f"{tmp_path}/{pattern}")}
        assert relative == matches
    else:
        assert "No file matches" in refused(f"{tmp_path}/{pattern}")


@settings(max_examples=examples(300), deadline=None)
@given(st.text("a[]!-^\\/?*.&~|", max_size=12))
def test_every_pattern_compiles_without_a_warning(pattern: str) -> None:
    assert isinstance(pattern_regex(pattern), re.Pattern)


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/b.txt", "d/a.txt", "elsewhere/one.txt")
    (tmp_path / "d" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "c.txt").symlink_to(tmp_path / "elsewhere" / "one.txt")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "d")
    assert found(f"{tmp_path}/d/**") == ["a.txt", "c.txt", "folder/b.txt", "folder/one.txt"]
    assert found(f"{tmp_path}/d/*/b.txt") == ["folder/b.txt"]


def test_a_link_to_nothing_is_a_dead_file_or_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "f/c.txt")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone.txt")
    outcomes = read_checked(f"{tmp_path}/*.txt")
    assert reasons(outcomes) == ["ok", "cannot_open"]
    assert ids(outcomes) == ["a.txt#0"]
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert f"{tmp_path}/gone is a link to nothing" in refused(f"{tmp_path}/g*/*.txt")


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "d/a.txt", "d/secret/b.txt")
    listed = os.scandir

    def scandir(path: str) -> Any:
        if path.rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{tmp_path}/d/secret/ cannot be listed: Permission denied" in refused(f"{tmp_path}/d/**")
    assert found(f"{tmp_path}/d/*.txt") == ["a.txt"]


def test_pipes_and_names_that_are_not_utf_8_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert "neither a file nor a folder" in refused(f"{tmp_path}/*")
    (tmp_path / "a.txt").unlink()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("x\n")
    assert "is not valid UTF-8" in refused(f"{tmp_path}/*")
