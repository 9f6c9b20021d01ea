"""Text of others on a screen: names, licences, file names and errors carry no orders to a terminal."""

from __future__ import annotations

import io
import json
import shutil
import sys
import unicodedata
from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.job.console.console import TextConsole
from beam_jobs.runs.listing import print_list
from model_bundle.base.command import print_error
from model_bundle.base.untrusted.printable import one_line, printable
from model_bundle.bundle.manifest import canonical_json
from model_bundle.cli.main import main

# Sets the title, clears the screen, hides text (the last in one character), a link, and text shown backwards.
ORDERS = "x\x1b]0;OWNED\x07\x1b[2J\x1b[8m\x9b8m\x1b]8;;http://evil\x07click\u202etxt.exe\u2066\r"


def has_orders(shown: str) -> bool:
    kinds = {unicodedata.category(char) for char in shown if char not in "\n\t"}
    return bool(kinds & {"Cc", "Zl", "Zp", "Cs"}) or any(char in shown for char in "\u202e\u2066\u200f")


@given(st.text())
def test_what_is_shown_has_no_orders_and_says_what_there_was(text: str) -> None:
    assert not has_orders(printable(text))
    assert "\n" not in one_line(text)
    quoted = json.dumps(text, ensure_ascii=False)
    assert json.loads(printable(quoted)) == text


def test_names_of_all_scripts_stay() -> None:
    for text in ("Zürich 北京 שלום नमस्ते", "👩‍👩‍👧", "a\tb"):
        assert printable(text) == text


@pytest.fixture
def hostile_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    raw = json.loads((bundle / "bundle.json").read_bytes())
    raw |= {"name": ORDERS, "licence": f"MIT\nname  trusted{ORDERS}", "versions": {ORDERS: ORDERS}}
    raw["source"] |= {"location": ORDERS}
    (bundle / "bundle.json").write_bytes(canonical_json(raw))
    return bundle


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_inspect_shows_a_hostile_manifest(
    flags: list[str], hostile_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(hostile_bundle), *flags]) == 0
    shown = capsys.readouterr().out
    assert not has_orders(shown)
    assert "OWNED" in shown
    assert not [line for line in shown.splitlines() if line.startswith("name  trusted")]
    if flags:
        assert json.loads(shown)["manifest"]["name"] == ORDERS


def test_errors_quote_names_of_files(hostile_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hostile_bundle / "\x1b[2Jextra\u202e").touch()
    assert main(["inspect", str(hostile_bundle)]) == 2
    shown = capsys.readouterr().err
    assert "extra" in shown
    assert not has_orders(shown)
    print_error(ORDERS, 2)
    assert not has_orders(capsys.readouterr().err)


def test_lists_of_runs_and_jobs_show_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run\x1b[2J\nnext" / "_staging").mkdir(parents=True)
    (tmp_path / "run\x1b[2J\nnext" / "_staging" / "file").touch()
    for form in ("text", "json"):
        stream = io.StringIO()
        print_list(Namespace(place=str(tmp_path), format=form), stream)
        assert "run" in stream.getvalue()
        assert not has_orders(stream.getvalue())
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    console = TextConsole(stream)
    for event in ("warning", "summary", "plan"):
        console.print(event, ORDERS)  # type: ignore[arg-type]
    assert not has_orders(stream.getvalue())
    console.draw("a\x1b[2Jb")
    assert stream.getvalue().count("\x1b[2J") == 0
