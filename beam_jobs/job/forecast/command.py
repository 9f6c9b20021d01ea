"""``--forecast``: flags to a forecast that is printed and saved."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from beam_jobs.base.config import ReadOptions
from beam_jobs.job.console.console import Voice
from beam_jobs.job.forecast.count import LengthCounter, Pace, ReadCounts, all_documents
from beam_jobs.job.forecast.estimate import (
    FORECAST_NAME,
    Forecast,
    ForecastCounts,
    cost_of,
    output_of,
    scale_counts,
    time_here,
)
from beam_jobs.job.forecast.measure import Measurement, measure
from beam_jobs.job.forecast.prices import DEFAULT_MACHINE_TYPE, find_machine, read_prices
from beam_jobs.job.forecast.sample import InputSample, sample_input
from beam_jobs.job.forecast.summary import describe_forecast
from beam_jobs.job.plan import plan_input
from beam_jobs.pipeline.read.inspect import InputSummary
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.description import absolute
from beam_jobs.store import filesystem
from model_bundle.base.machine import cpu_name, num_cores


def forecast_job(flags: argparse.Namespace, options: Any, voice: Voice) -> int:
    """Makes, saves and prints a forecast; no run is begun and none is touched.

    Raises:
        UsageError, ModelBundleError: what is wrong, and what to do.
    """
    table = read_prices(flags.prices)
    machine = find_machine(table, flags.forecast_machine_type or DEFAULT_MACHINE_TYPE)
    read, summary, settings = plan_input(flags)
    sample = sample_input(summary, read)
    found = measure(settings, sample.documents, summary.kept_schema)
    counts = _count(flags.forecast, read, summary, settings, sample, found)
    here = time_here(counts, found, cpu_name(), num_cores())
    precision = str(settings.request.precision)
    forecast = Forecast(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        mode=flags.forecast,
        bundle={"name": settings.bundle_name, "digest": settings.bundle_digest},
        precision=precision,
        counts=counts,
        here=here,
        output=output_of(counts, found),
        dataflow=cost_of(here, machine, table, precision, _num_workers(options)),
    )
    place = filesystem.join(absolute(flags.output), FORECAST_NAME)
    filesystem.replace(place, (forecast.model_dump_json(indent=2) + "\n").encode())
    voice.say(
        "forecast", describe_forecast(forecast, place), facts={"forecast": forecast.model_dump(mode="json")}
    )
    return 0


def _count(
    mode: str,
    read: ReadOptions,
    summary: InputSummary,
    settings: EncodeSettings,
    sample: InputSample,
    found: Measurement,
) -> ForecastCounts:
    """Counts lengths, of the sample or of everything."""
    bundle = settings.open_bundle()
    pace = Pace(settings, found.cells_per_second, from_start=mode == "full" or sample.is_whole)
    counter = LengthCounter(bundle, settings.request, found.max_batch_tokens, pace)
    if mode == "sample":
        lengths = counter.count(sample.documents)
        return scale_counts(
            lengths,
            sample.num_total,
            sample.num_records,
            sample.num_dead,
            found.dead_fraction,
            is_exact=sample.is_whole and len(sample.documents) == sample.num_records - sample.num_dead,
        )
    records = ReadCounts()
    lengths = counter.count(all_documents(summary, read, records))
    return scale_counts(
        lengths,
        records.num_records,
        records.num_records,
        records.num_dead,
        found.dead_fraction,
        is_exact=True,
    )


def _num_workers(options: Any) -> int | None:
    """Returns the number of workers that Beam's flags ask for."""
    from apache_beam.options.pipeline_options import WorkerOptions

    workers = options.view_as(WorkerOptions)
    return workers.max_num_workers or workers.num_workers or None
