"""From flags to a finished run: check everything, run, watch, say what happened."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from beam_jobs.errors import JobError
from beam_jobs.forecast.flags import check_forecast
from beam_jobs.interrupts import Stopping, stop_on_signals
from model_bundle.errors import ModelBundleError

_logger = logging.getLogger("beam_jobs")


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Runs a job and gives the exit code; an error that a user can fix is one message, not a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _logger.setLevel(logging.INFO)
    try:
        with stop_on_signals() as stopping:
            flags, rest = parser.parse_known_args(list(argv))
            return _run(parser, flags, rest, stopping)
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModelBundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(
    parser: argparse.ArgumentParser, flags: argparse.Namespace, rest: list[str], stopping: Stopping
) -> int:
    check_forecast(flags)
    # Beam takes seconds to import: only now, when the flags have been understood.
    from beam_jobs.beam_flags import is_in_process, pipeline_options
    from beam_jobs.planning import plan_job
    from beam_jobs.running import run_plan
    from beam_jobs.summary import print_plan, print_summary

    own_flags = [option for action in parser._actions for option in action.option_strings]
    options = pipeline_options(flags.runner, rest, own_flags)
    if flags.forecast is not None:
        from beam_jobs.forecast.job import forecast_job

        return forecast_job(flags, options, sys.stdout)
    in_process = is_in_process(flags.runner)
    plan = plan_job(flags, options, in_process=in_process)
    print_plan(plan, sys.stderr)
    stopping.started(plan.write.run_id, in_process=in_process)
    manifest = run_plan(plan, options, in_process=in_process)
    if manifest is None:
        return 0
    stopping.ended()
    print_summary(manifest, plan, sys.stdout)
    if manifest.failure is not None:
        from beam_jobs.commit import failure_of

        raise failure_of(manifest)
    return 0
