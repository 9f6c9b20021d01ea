"""Writes ``metadata.json``, the template's parameters, from the flags of the embed job."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "metadata.json"
# Flags without use in a template, which has its runner and no terminal.
_LEFT_OUT = {"help", "version", "runner", "forecast", "forecast_machine_type", "prices", "limit"}
_REQUIRED = {"input", "output"}


def metadata() -> dict[str, Any]:
    """Returns the metadata of every flag of the embed job that a template accepts."""
    from beam_jobs.job.flags.parsers import embed_parser

    parser = embed_parser()
    found = [_parameter(action) for action in parser._actions if action.dest not in _LEFT_OUT]
    return {
        "name": "Batch embedding",
        "description": str(parser.description),
        "parameters": found,
    }


def _parameter(action: argparse.Action) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": action.dest,
        "label": action.dest.replace("_", " ").capitalize(),
        "helpText": _help(action),
        "isOptional": action.dest not in _REQUIRED,
    }
    if action.const is True:
        parameter |= {"paramType": "BOOLEAN", "regexes": ["^(true|false)$"]}
    elif action.choices:
        parameter |= {"paramType": "TEXT", "regexes": [f"^({'|'.join(action.choices)})$"]}
    elif action.type in (int, float):
        parameter["regexes"] = [r"^\d+$" if action.type is int else r"^\d*\.?\d+$"]
    if action.dest in _REQUIRED:
        parameter["regexes"] = ["^gs://.+$"]
    return parameter


def _help(action: argparse.Action) -> str:
    text = str(action.help or "") % {"default": action.default}
    return text[0].upper() + text[1:].rstrip(".") + "."


def main() -> None:
    """Writes ``metadata.json`` next to this script."""
    PATH.write_text(json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
