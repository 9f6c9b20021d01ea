"""Checks that the last finished run is recent, for cron and monitoring: exit code 0 if it is, else 1."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime


def main() -> int:
    """Checks ``latest.json`` in the root of the runs and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("output", metavar="ROOT", help="the job's --output, local or gs://")
    parser.add_argument(
        "--max_hours",
        type=float,
        default=30.0,
        metavar="H",
        help="maximum age of the run (default: 30, for nightly runs)",
    )
    flags = parser.parse_args()

    from beam_jobs.store import filesystem

    data = filesystem.read_bytes(filesystem.join(flags.output, "latest.json"))
    if data is None:
        print(f"There is no finished run in {flags.output}.")
        return 1
    latest = json.loads(data)
    hours = (datetime.now(UTC) - datetime.fromisoformat(latest["finished_at"])).total_seconds() / 3600
    print(
        f"The last finished run, {latest['run_id']}, is {hours:.1f} hours old (maximum: {flags.max_hours:g})."
    )
    return 0 if hours <= flags.max_hours else 1


if __name__ == "__main__":
    raise SystemExit(main())
