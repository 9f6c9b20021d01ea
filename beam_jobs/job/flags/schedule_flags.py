"""The flags of runs that a scheduler starts."""

from __future__ import annotations

import argparse


def add_schedule(group: argparse._ArgumentGroup) -> None:
    """Adds them; every job has them."""
    group.add_argument(
        "--date",
        metavar="YYYY-MM-DD",
        help="the day that {date} in --input and --run_id means: for backfills. Default: today in --timezone",
    )
    group.add_argument(
        "--timezone", default="UTC", metavar="NAME", help="where today is, as Europe/Berlin (default: UTC)"
    )
    group.add_argument(
        "--on_no_input",
        choices=["fail", "succeed"],
        default="fail",
        help="what becomes of a run whose patterns match no file: an error (default), or no run and "
        "exit code 0",
    )
    group.add_argument(
        "--bundle_store",
        metavar="gs://DIR",
        help="where a bundle from this machine goes for workers elsewhere, under its digest. Default: "
        "model_bundles below --temp_location",
    )
    group.add_argument(
        "--bundle_in_image",
        action="store_true",
        help="the workers' image holds the bundle under the same path as here: nothing is sent",
    )
