"""Creates or updates the Cloud Scheduler job that launches the template every night."""

from __future__ import annotations

import argparse

from bodies import add_launch, add_place, check_pins, pairs, scheduler_job
from calls import DATAFLOW_URL, SCHEDULER_URL, call, print_json, print_message


def main() -> None:
    """Creates or updates the schedule, or prints it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_place(parser)
    add_launch(parser)
    parser.add_argument("--schedule", default="30 2 * * *", metavar="CRON", help="default: 02:30 every night")
    parser.add_argument("--timezone", default="Etc/UTC", metavar="NAME", help="time zone of the schedule")
    parser.add_argument(
        "--scheduler_account", required=True, metavar="EMAIL", help="service account that launches the job"
    )
    parser.add_argument("--dataflow_url", default=DATAFLOW_URL, help=argparse.SUPPRESS)
    parser.add_argument("--scheduler_url", default=SCHEDULER_URL, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    check_pins(flags.image, pairs(flags.parameter, "--parameter"))
    job = scheduler_job(flags, flags.dataflow_url)
    if flags.print_only:
        print_json(job)
        return
    status, _ = call("PATCH", f"{flags.scheduler_url}/v1/{job['name']}", job)
    if status == 404:  # the job does not exist yet
        parent = job["name"].rpartition("/jobs/")[0]
        status, _ = call("POST", f"{flags.scheduler_url}/v1/{parent}/jobs", job)
        if status == 404:
            raise SystemExit(f"Cloud Scheduler does not find {parent}. Check that its API is enabled there.")
        print_message(f"created {job['name']}")
    else:
        print_message(f"updated {job['name']}")


if __name__ == "__main__":
    main()
