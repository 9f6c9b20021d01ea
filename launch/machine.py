"""Which machine a launch will request, from the table that job and forecast read."""

from __future__ import annotations

import argparse


def machine_note(flags: argparse.Namespace) -> str:
    """Returns which machine the job will request, and why.

    The launcher fits it to the bundle, whose size is not known here, by the same table.
    """
    if flags.machine_type:
        return f"machine: {flags.machine_type}, as given"
    precision = flags.parameters.get("precision", "float32")
    if precision == "auto":
        return "machine: the job's choice, by the bundle's size and the precision that it finds"

    from beam_jobs.job.dataflow.prices import default_machines, describe_default, read_prices

    table = read_prices(None)
    machine = default_machines(table, precision)[0]
    why = describe_default(table, precision)
    return f"machine: {machine}, or more of its family if the bundle needs it: {why}"
