"""Writes ``metadata/TASK.json``, the parameters of both templates, from the flags of the jobs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "metadata"
TASKS = ("embed", "classify")
# Flags without use in a template, which has its runner and no terminal.
_LEFT_OUT = {"help", "version", "runner", "forecast", "forecast_machine_type", "prices", "limit"}
_REQUIRED = {"input", "output"}
_MAY_BE_ZERO = {"max_dead_files", "window_overlap"}
# Texts with a form of their own. Workers reach gs:// and their image, not the launching machine.
_FORMS = {
    "input": "gs://[^/]+/.+",
    "output": "gs://[^/]+(/.*)?",
    "previous": "latest|gs://.+",
    "bundle": "(gs://.+|/.+|[a-z0-9-]+)(@sha256:[0-9a-f]{64})?",
    "bundle_store": "gs://.+",
    "column_types": "[^=,]+=(string|int64|float64|bool)(,[^=,]+=(string|int64|float64|bool))*",
    "date": r"\d{4}-\d{2}-\d{2}",
    "delimiter": ".|\t",
    "rename_columns": "[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*",
    "stop_after_dead": r"[1-9]\d*|0?\.\d*[1-9]\d*",
    "run_id": r"[A-Za-z0-9{][A-Za-z0-9._{}:%+-]*",
}


def metadata(task: str) -> dict[str, Any]:
    """Returns the metadata of every flag of a job that a template accepts."""
    from beam_jobs.job.flags.parsers import classify_parser, embed_parser

    parser = embed_parser() if task == "embed" else classify_parser()
    found = [_parameter(action) for action in parser._actions if action.dest not in _LEFT_OUT]
    return {
        "name": "Batch embedding" if task == "embed" else "Batch classification",
        "description": str(parser.description),
        "parameters": found,
    }


def read_metadata(task: str) -> dict[str, Any]:
    """Reads the stored metadata of a template."""
    found: dict[str, Any] = json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))
    return found


def _parameter(action: argparse.Action) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": action.dest,
        "label": action.dest.replace("_", " ").capitalize(),
        "helpText": _help(action),
        "isOptional": not action.required and action.dest not in _REQUIRED,
    }
    form = _form(action)
    if action.const is True:
        parameter["paramType"] = "BOOLEAN"
    elif action.choices:
        parameter["paramType"] = "TEXT"
    return parameter if form is None else parameter | {"regexes": [f"^({form})$"]}


def _form(action: argparse.Action) -> str | None:
    """Returns the regular expression of a parameter's values; None for any text."""
    if action.const is True:
        return "true|false"
    if action.choices:
        return "|".join(action.choices)
    if action.type is int:
        return r"\d+" if action.dest in _MAY_BE_ZERO else r"[1-9]\d*"
    if action.type is float:
        return r"\d*\.?\d+"
    return _FORMS.get(action.dest)


def _help(action: argparse.Action) -> str:
    text = str(action.help or "") % {"default": action.default}
    return text[0].upper() + text[1:].rstrip(".") + "."


def main() -> None:
    """Writes both files."""
    for task in TASKS:
        text = json.dumps(metadata(task), indent=2, ensure_ascii=False) + "\n"
        (FOLDER / f"{task}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
