"""From flags to a finished run: check everything, run, watch, say what happened."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from beam_jobs.errors import FinishedError, JobError, NoInputError
from beam_jobs.job.console.console import Voice
from beam_jobs.job.console.log_capture import speaking
from beam_jobs.job.console.signals import Stopping, stop_on_signals
from beam_jobs.job.flags.dates import has_date, resolve_dates
from beam_jobs.job.flags.forecast_flags import check_forecast
from model_bundle.errors import ModelBundleError


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Runs a job and gives the exit code; an error that a user can fix is one message, not a traceback."""
    with speaking(argv) as voice:
        try:
            with stop_on_signals(voice) as stopping:
                flags, rest = parser.parse_known_args(list(argv))
                return _run(parser, flags, rest, stopping, voice)
        except JobError as error:
            voice.say("error", str(error), "ERROR", {"exit_code": error.exit_code})
            return error.exit_code
        except ModelBundleError as error:
            voice.say("error", str(error), "ERROR", {"exit_code": 2})
            return 2


def _run(
    parser: argparse.ArgumentParser,
    flags: argparse.Namespace,
    rest: list[str],
    stopping: Stopping,
    voice: Voice,
) -> int:
    check_forecast(flags)
    is_dated_run = has_date(flags.run_id)
    resolve_dates(flags)
    # Beam takes seconds to import: only now, when the flags have been understood.
    from beam_jobs.job.dataflow.empty_job import end_without_run
    from beam_jobs.job.dataflow.workers import check_schedule, prepare_workers
    from beam_jobs.job.flags.beam import is_in_process, pipeline_options
    from beam_jobs.job.plan import plan_job
    from beam_jobs.job.run import run_plan
    from beam_jobs.job.summary import print_plan, print_summary

    own_flags = [option for action in parser._actions for option in action.option_strings]
    options = pipeline_options(flags.runner, rest, own_flags)
    if flags.forecast is not None:
        from beam_jobs.job.forecast.command import forecast_job

        return forecast_job(flags, options, voice)
    check_schedule(flags)
    in_process = is_in_process(flags.runner)
    try:
        plan = plan_job(flags, options, in_process=in_process)
    except NoInputError as error:
        if flags.on_no_input == "fail":
            raise
        return end_without_run(f"No run: {error}", options, voice)
    except FinishedError:
        if not is_dated_run:
            raise
        return end_without_run(
            f"The run {flags.run_id} was finished before; nothing is done.", options, voice
        )
    plan = prepare_workers(plan, flags, options, voice)
    voice.run_id = plan.write.run_id
    print_plan(plan, voice)
    stopping.started(plan.write.run_id, in_process=in_process)
    manifest = run_plan(plan, options, voice, in_process=in_process)
    if manifest is None:
        return 0
    stopping.ended()
    print_summary(manifest, plan, voice)
    if manifest.failure is not None:
        from beam_jobs.pipeline.write.commit import failure_of

        raise failure_of(manifest)
    return 0
