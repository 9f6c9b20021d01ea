"""Creates or updates the Cloud Scheduler job that launches the template every night."""

from __future__ import annotations

import argparse

from bodies import check_pins, launch_body, scheduler_job
from calls import DATAFLOW, SCHEDULER, call, print_json, print_message, service
from flags import add_launch, add_place, parse
from machine import machine_note


def main() -> None:
    """Creates or updates the schedule, or prints it: the request, and on stderr its body decoded."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_place(parser)
    add_launch(parser)
    parser.add_argument("--schedule", default="30 2 * * *", metavar="CRON", help="default: 02:30 every night")
    parser.add_argument("--timezone", default="Etc/UTC", metavar="NAME", help="time zone of the schedule")
    parser.add_argument(
        "--scheduler_account", metavar="EMAIL", help="that launches the job; default: SCHEDULER"
    )
    flags = parse(parser)
    check_pins(flags.image, flags.parameters)
    job = scheduler_job(flags, service(DATAFLOW, None))
    print_message(machine_note(flags))
    if flags.print_only:
        print_json(job)
        print_message("httpTarget.body, decoded:")
        print_json(launch_body(flags), to_stderr=True)
        return
    url = service(SCHEDULER, flags.service_url)
    status, _ = call("PATCH", f"{url}/v1/{job['name']}", job)
    if status == 404:  # the job does not exist yet
        parent = job["name"].rpartition("/jobs/")[0]
        status, _ = call("POST", f"{url}/v1/{parent}/jobs", job)
        if status == 404:
            raise SystemExit(f"Cloud Scheduler does not find {parent}. Check that its API is enabled there.")
        print_message(f"created {job['name']}")
    else:
        print_message(f"updated {job['name']}")


if __name__ == "__main__":
    main()
