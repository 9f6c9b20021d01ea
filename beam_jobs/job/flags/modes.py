"""Flags for long texts, rows, forecasts and scheduled runs."""

from __future__ import annotations

import argparse
import math
from functools import partial

from beam_jobs.errors import UsageError
from model_bundle.base.flags import add_flag


def add_long_texts(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for long texts, which every job has."""
    add = partial(add_flag, group)
    add(
        "--on_long",
        "how to handle texts over --max_tokens: truncate (default), split into windows, dead_letter, or "
        "fail the run",
        choices=["truncate", "windows", "dead_letter", "fail"],
    )
    add(
        "--window_overlap N",
        "tokens shared by neighbouring windows; with --windows_at sentence or paragraph, sentences "
        "(default: 0)",
        parse=int,
    )


def add_rows(group: argparse._ArgumentGroup) -> None:
    """Adds the flags that select what one row of vectors is."""
    add = partial(add_flag, group)
    add(
        "--rows",
        "write one row per document (default), per window of long documents, or per word; the last two "
        "with their position in the text",
        choices=["document", "window", "word"],
        default="document",
    )
    add(
        "--combine",
        "how windows become one vector per document: mean, weighted by tokens, or max of each element "
        "(default: mean)",
        choices=["mean", "max"],
    )
    add(
        "--windows_at",
        "where windows of long texts end: at any token (default), or after a sentence or paragraph, with "
        "code and tables left whole where they fit",
        choices=["tokens", "sentence", "paragraph"],
    )
    add(
        "--window_language CODE",
        "language of the texts, for abbreviations at the ends of sentences (default: en)",
    )
    add(
        "--word_pieces",
        "vector of a word with several tokens: that of the first, or the mean of all (default: mean)",
        choices=["first", "mean"],
    )


def add_forecast(group: argparse._ArgumentGroup) -> None:
    """Adds the flags of a forecast, which every job has."""
    add = partial(add_flag, group)
    add(
        "--forecast",
        "estimate time, size and cost instead of running; sample reads a few MB of the input, full all of it",
        choices=["sample", "full"],
    )
    add(
        "--forecast_machine_type TYPE",
        "machine type of Dataflow workers, to estimate their cost (default: that of the job)",
    )
    add(
        "--max_cost AMOUNT",
        "refuse to start on Dataflow if the forecast from a sample is above this (price table's currency)",
        parse=float,
    )
    add("--prices FILE", "price table to use instead of the dated one that ships with the package")


def check_forecast(flags: argparse.Namespace) -> None:
    """Rejects forecast flags that have no effect."""
    for name in ("forecast_machine_type", "prices"):
        if getattr(flags, name) is not None and flags.forecast is None and flags.max_cost is None:
            raise UsageError(f"--{name} needs --forecast sample, --forecast full or --max_cost.")
    if flags.max_cost is not None and not 0 < flags.max_cost < math.inf:
        raise UsageError(f"--max_cost {flags.max_cost:g}: expected an amount above 0.")


def add_schedule(group: argparse._ArgumentGroup) -> None:
    """Adds the flags of runs that a scheduler starts, which every job has."""
    add = partial(add_flag, group)
    add(
        "--date YYYY-MM-DD",
        "day that {date} stands for in --input and --run_id (default: today in --timezone)",
    )
    add("--timezone NAME", "time zone of {date}, such as Europe/Berlin (default: UTC)", default="UTC")
    add(
        "--on_no_input",
        "how to end when the patterns match no file: fail (default), or succeed without a run and exit "
        "code 0",
        choices=["fail", "succeed"],
        default="fail",
    )
    add(
        "--bundle_store URL",
        "folder that local bundles are uploaded to for remote workers, under their digest (default: "
        "model_bundles below --temp_location)",
    )
    add(
        "--bundle_in_image",
        "the worker image has the bundle at the same path as this machine; nothing is uploaded",
    )
