"""Ends scheduled runs that have no work: no input for that day, or already finished."""

from __future__ import annotations

import logging
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_jobs.job.console.console import Console

_logger = logging.getLogger(__name__)


def end_without_run(why: str, options: Any, console: Console) -> int:
    """Prints why there is no run and returns the exit code 0.

    A template launch counts as failed unless it submits a job, so there an empty job is submitted that logs
    the same message.

    Args:
        why: the message, a sentence.
        options: Beam's pipeline options.
        console: where it is printed.
    """
    console.print("summary", why)
    if options.view_as(GoogleCloudOptions).template_location:
        pipeline = beam.Pipeline(options=options)
        _ = (
            pipeline
            | "NothingToDo" >> beam.Create([why])  # PCollection[str]
            | "LogReason" >> beam.Map(_log_reason)  # PCollection[None]
        )
        pipeline.run()
    return 0


def _log_reason(why: str) -> None:
    _logger.warning("%s", why)
