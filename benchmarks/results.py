"""Writes results as JSON and updates the README's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine, our_versions
from benchmarks.worker import ROOT

DEFAULT_OUTPUT = ROOT / "benchmarks" / "results"
README = ROOT / "benchmarks" / "README.md"


def new_results(**fields: Any) -> dict[str, Any]:
    """Returns new results with date, machine and versions."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"started_at": now, "machine": describe_machine(), "versions": our_versions(), **fields}


def write_results(results: Mapping[str, Any], name: str, output: Path) -> Path:
    """Writes ``OUTPUT/DATE-NAME.json`` with the date of the start."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{results['started_at'][:10]}-{name}.json"
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def publish(results: Mapping[str, Any], name: str, table: str, output: Path) -> None:
    """Writes results, prints their table, and updates the README if the output folder is the default."""
    path = write_results(results, name, output)
    print(f"\n{table}\n\nresults: {path}", flush=True)
    if output.resolve() == DEFAULT_OUTPUT:
        text = replace_section(README.read_text(encoding="utf-8"), name, table)
        README.write_text(text, encoding="utf-8")


def replace_section(text: str, name: str, content: str) -> str:
    """Replaces the content between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
        BenchmarkError: the markers are not present once each, in this order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end) or begin in rest or end in tail:
        raise BenchmarkError(f"The README must contain {begin} and after it {end}, once each.")
    return f"{head}{begin}\n{content}\n{end}{tail}"
