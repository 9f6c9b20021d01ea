"""Whether the last good run is recent: exit code 0, or 1 with what is wrong. For cron and monitors."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime


def main() -> int:
    """Reads ``latest.json`` below the root of the runs."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("output", metavar="ROOT", help="as --output of the job, local or gs://")
    parser.add_argument(
        "--max_hours", type=float, default=30.0, metavar="H", help="default: 30, for nightly runs"
    )
    flags = parser.parse_args()

    from beam_jobs.store import filesystem

    data = filesystem.read_bytes(filesystem.join(flags.output, "latest.json"))
    if data is None:
        print(f"No run below {flags.output} was ever finished.")
        return 1
    latest = json.loads(data)
    hours = (datetime.now(UTC) - datetime.fromisoformat(latest["finished_at"])).total_seconds() / 3600
    print(
        f"The last good run, {latest['run_id']}, is {hours:.1f} hours old; allowed are {flags.max_hours:g}."
    )
    return 0 if hours <= flags.max_hours else 1


if __name__ == "__main__":
    raise SystemExit(main())
