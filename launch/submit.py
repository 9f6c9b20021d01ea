"""Launches the template once, for a first run or a backfill (--parameter date=2026-11-01)."""

from __future__ import annotations

import argparse

from bodies import launch_body, launch_path
from calls import DATAFLOW, call, print_json, print_message, service
from flags import add_launch, add_place, parse
from machine import machine_note


def main() -> None:
    """Sends one launch request, or prints it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_place(parser)
    add_launch(parser)
    flags = parse(parser)
    body = launch_body(flags)
    print_message(machine_note(flags))
    if flags.print_only:
        print_json(body)
        return
    status, answer = call("POST", f"{service(DATAFLOW, flags.service_url)}{launch_path(flags)}", body)
    if status == 404:
        raise SystemExit(
            f"Dataflow does not find the project {flags.project} or the template {flags.template}."
        )
    job = answer["job"]["id"]
    print_message(
        f"https://console.cloud.google.com/dataflow/jobs/{flags.region}/{job}?project={flags.project}"
    )
    print(job)


if __name__ == "__main__":
    main()
