"""Flags for long texts, rows, forecasts and scheduled runs."""

from __future__ import annotations

import argparse

from beam_jobs.errors import UsageError


def add_long_texts(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for long texts, which every job has."""
    group.add_argument(
        "--on_long",
        choices=["truncate", "windows", "dead_letter", "fail"],
        help="how to handle texts over --max_tokens: truncate (default), split into windows, dead_letter, or "
        "fail the run",
    )
    group.add_argument(
        "--window_overlap", type=int, metavar="N", help="tokens shared by neighbouring windows (default: 0)"
    )


def add_rows(group: argparse._ArgumentGroup) -> None:
    """Adds the flags that select what one row of vectors is."""
    group.add_argument(
        "--rows",
        choices=["document", "window", "word"],
        default="document",
        help="write one row per document (default), per window of long documents, or per word; the last two "
        "with their position in the text",
    )
    group.add_argument(
        "--combine",
        choices=["mean", "max"],
        help="how windows become one vector per document: mean, weighted by tokens, or max of each element "
        "(default: mean)",
    )
    group.add_argument(
        "--word_pieces",
        choices=["first", "mean"],
        help="vector of a word with several tokens: that of the first, or the mean of all (default: mean)",
    )


def add_forecast(group: argparse._ArgumentGroup) -> None:
    """Adds the flags of a forecast, which every job has."""
    group.add_argument(
        "--forecast",
        choices=["sample", "full"],
        help="estimate time, size and cost instead of running; sample reads a few MB of the input, full all "
        "of it",
    )
    group.add_argument(
        "--forecast_machine_type",
        metavar="TYPE",
        help="machine type of Dataflow workers, to estimate their cost (default: n2-standard-4)",
    )
    group.add_argument(
        "--prices",
        metavar="FILE",
        help="price table to use instead of the dated one that ships with the package",
    )


def check_forecast(flags: argparse.Namespace) -> None:
    """Rejects forecast flags that have no effect."""
    for name in ("forecast_machine_type", "prices"):
        if getattr(flags, name) is not None and flags.forecast is None:
            raise UsageError(f"--{name} needs --forecast sample or --forecast full.")


def add_schedule(group: argparse._ArgumentGroup) -> None:
    """Adds the flags of runs that a scheduler starts, which every job has."""
    group.add_argument(
        "--date",
        metavar="YYYY-MM-DD",
        help="day that {date} stands for in --input and --run_id (default: today in --timezone)",
    )
    group.add_argument(
        "--timezone",
        default="UTC",
        metavar="NAME",
        help="time zone of {date}, such as Europe/Berlin (default: UTC)",
    )
    group.add_argument(
        "--on_no_input",
        choices=["fail", "succeed"],
        default="fail",
        help="how to end when the patterns match no file: fail (default), or succeed without a run and exit "
        "code 0",
    )
    group.add_argument(
        "--bundle_store",
        metavar="gs://DIR",
        help="folder that local bundles are uploaded to for remote workers, under their digest (default: "
        "model_bundles below --temp_location)",
    )
    group.add_argument(
        "--bundle_in_image",
        action="store_true",
        help="the worker image has the bundle at the same path as this machine; nothing is uploaded",
    )
