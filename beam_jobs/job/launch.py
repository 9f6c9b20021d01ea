"""From flags to a finished run: checks everything, runs, watches, and reports what happened."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from beam_jobs.base.command import Parser
from beam_jobs.errors import FinishedError, NoInputError
from beam_jobs.job.console.console import Console
from beam_jobs.job.console.log_capture import open_console
from beam_jobs.job.console.notebook import ordinary_pipelines
from beam_jobs.job.console.signals import InterruptMessage, stop_on_signals
from beam_jobs.job.flags.dates import has_date
from beam_jobs.job.flags.modes import check_forecast
from beam_jobs.job.flags.options import check_alone
from model_bundle.base.command import run_command
from model_bundle.base.machine import num_cores


def launch_job(parser: Parser, argv: Sequence[str]) -> int:
    """Runs a job and returns the exit code; an error that a user can fix is one message, not a traceback."""
    with open_console(argv) as console:

        def run() -> int:
            with stop_on_signals(console) as interrupt:
                flags, rest = parser.parse_known_args(list(argv))
                with ordinary_pipelines():
                    return _run(parser, flags, rest, interrupt, console)

        def report(message: str, exit_code: int) -> None:
            console.print("error", message, "ERROR", {"exit_code": exit_code})

        return run_command(run, report)


def _run(
    parser: Parser,
    flags: argparse.Namespace,
    rest: list[str],
    interrupt: InterruptMessage,
    console: Console,
) -> int:
    check_forecast(flags)
    is_dated_run = has_date(flags.run_id)
    check_alone(flags)
    if console.is_live:
        console.draw("importing Apache Beam")
    # Beam takes seconds to import: only now, when the flags have been understood.
    from beam_jobs.job.dataflow.empty_job import end_without_run
    from beam_jobs.job.dataflow.workers import check_schedule, prepare_workers
    from beam_jobs.job.flags.beam import is_in_process, pipeline_options, share_cores
    from beam_jobs.job.forecast.command import check_cost, forecast_job
    from beam_jobs.job.plan import plan_job
    from beam_jobs.job.run import run_plan
    from beam_jobs.job.summary import print_plan, print_summary

    options = pipeline_options(flags.runner, rest, parser.flag_names())
    if flags.forecast is not None:
        return forecast_job(flags, options, console)
    check_schedule(flags)
    in_process = is_in_process(flags.runner)
    flags.num_threads = share_cores(options, flags.num_threads, num_cores())
    if console.is_live:
        console.draw("checking the model and the input")
    try:
        check_cost(flags, options, console)
        plan = plan_job(flags, options, in_process=in_process)
    except NoInputError as error:
        if flags.on_no_input == "fail":
            raise
        return end_without_run(f"No run: {error}", options, console)
    except FinishedError:
        if not is_dated_run:
            raise
        return end_without_run(
            f"The run {flags.run_id} was finished before; nothing is done.", options, console
        )
    plan = prepare_workers(plan, flags, options, console)
    console.run_id, console.attempt = plan.write.run_id, plan.write.attempt_id
    print_plan(plan, console)
    interrupt.started(plan.write.run_id, in_process=in_process)
    manifest = run_plan(plan, options, console, in_process=in_process)
    if manifest is None:
        return 0
    interrupt.ended()
    print_summary(manifest, plan, console)
    if manifest.failure is not None:
        from beam_jobs.pipeline.write.commit import failure_of

        raise failure_of(manifest)
    return 0
