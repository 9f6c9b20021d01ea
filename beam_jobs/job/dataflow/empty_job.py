"""Starts of a scheduler that have nothing to do: a day without files, or one that is done already."""

from __future__ import annotations

import logging
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_jobs.job.console.console import Console

_logger = logging.getLogger(__name__)


def end_without_run(why: str, options: Any, console: Console) -> int:
    """Says why there is no run, and gives the exit code 0.

    Where a template is launched, the launcher must leave a job, or the launch counts as failed: it leaves one
    that says the same and ends.

    Args:
        why: a sentence.
        options: Beam's pipeline options.
        console: says it.
    """
    console.print("summary", why)
    if options.view_as(GoogleCloudOptions).template_location:
        pipeline = beam.Pipeline(options=options)
        _ = (
            pipeline
            | "NothingToDo" >> beam.Create([why])  # PCollection[str]
            | "SayWhy" >> beam.Map(_say)  # PCollection[None]
        )
        pipeline.run()
    return 0


def _say(why: str) -> None:
    _logger.warning("%s", why)
