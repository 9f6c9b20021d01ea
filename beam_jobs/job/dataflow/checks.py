"""What of these flags means nothing for the runner at hand."""

from __future__ import annotations

import argparse

from beam_jobs.errors import UsageError
from beam_jobs.job.flags.beam import is_in_process


def check_schedule(flags: argparse.Namespace) -> None:
    """Refuses flags that have no effect.

    Raises:
        UsageError: which, and what to do.
    """
    if is_in_process(flags.runner):
        for name in ("bundle_store", "bundle_in_image"):
            if getattr(flags, name):
                raise UsageError(
                    f"--{name} is for workers elsewhere; --runner {flags.runner} works here. Leave it out."
                )
    if flags.bundle_store is not None and flags.bundle_in_image:
        raise UsageError(
            "--bundle_store sends the bundle, --bundle_in_image says it is there: leave one out."
        )
