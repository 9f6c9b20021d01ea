"""The flags of a forecast."""

from __future__ import annotations

import argparse

from beam_jobs.errors import UsageError


def add_forecast(group: argparse._ArgumentGroup) -> None:
    """Adds them; every job has them."""
    group.add_argument(
        "--forecast",
        choices=["sample", "full"],
        help="do not run: say what it would take. sample reads some MB of the input, full counts all of it",
    )
    group.add_argument(
        "--forecast_machine_type",
        metavar="TYPE",
        help="of Dataflow's workers, to say what they cost (default: n2-standard-4)",
    )
    group.add_argument(
        "--prices",
        metavar="FILE",
        help="table of prices, instead of the dated one that comes with the package",
    )


def check_forecast(flags: argparse.Namespace) -> None:
    """Refuses flags that have no effect."""
    for name in ("forecast_machine_type", "prices"):
        if getattr(flags, name) is not None and flags.forecast is None:
            raise UsageError(f"--{name} needs --forecast sample or --forecast full.")
