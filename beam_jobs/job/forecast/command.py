"""``--forecast``: computes, prints and saves a forecast."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from apache_beam.options.pipeline_options import WorkerOptions

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.units import count, describe_loss, format_bytes, format_duration
from beam_jobs.base.unknown_tokens import unknown_warning
from beam_jobs.errors import UsageError
from beam_jobs.job.console.console import Console
from beam_jobs.job.dataflow.prices import find_machine, read_prices
from beam_jobs.job.dataflow.workers import bundle_bytes, default_machine
from beam_jobs.job.forecast.count import LengthCounter, Pace, ReadCounts, all_documents
from beam_jobs.job.forecast.estimate import (
    FORECAST_NAME,
    Forecast,
    ForecastCounts,
    compare_families,
    cost_of,
    cost_of_precision,
    output_of,
    scale_counts,
    time_here,
)
from beam_jobs.job.forecast.measure import Measurement, measure
from beam_jobs.job.forecast.sample import InputSample, sample_input
from beam_jobs.job.plan import plan_input, print_allowed
from beam_jobs.pipeline.read.inspect import InputSummary
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.report.sections import length_bars
from beam_jobs.store import filesystem
from beam_jobs.store.filesystem import absolute_path
from model_bundle.base.machine import cpu_name, instruction_set, num_cores
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import Precision
from model_bundle.inference.precision import quality_loss
from model_bundle.inference.speedups import measure_speedups

_BAR_CHARACTERS = 40
_MAX_LINES = 16


def forecast_job(flags: argparse.Namespace, options: Any, console: Console) -> int:
    """Computes, saves and prints a forecast without starting or changing a run.

    Raises:
        UsageError, ModelBundleError: a flag, the input, the bundle or the price table cannot be used.
    """
    forecast = make_forecast(flags, flags.forecast, options, console)
    place = filesystem.join(absolute_path(flags.output), FORECAST_NAME)
    filesystem.replace(place, (forecast.model_dump_json(indent=2) + "\n").encode())
    console.print(
        "forecast", describe_forecast(forecast, place), facts={"forecast": forecast.model_dump(mode="json")}
    )
    return 0


def check_cost(flags: argparse.Namespace, options: Any, console: Console) -> None:
    """Refuses a run whose forecast from a sample is above ``--max_cost``, where that is given.

    Raises:
        UsageError: it is, or the price table, the input or the bundle cannot be used.
    """
    if flags.max_cost is None:
        return
    cloud = make_forecast(flags, "sample", options, console).dataflow
    most = max(cloud.workers, key=lambda each: each.cost)
    what = f"{most.cost:,.2f} {cloud.currency} on {count(most.num_workers, 'machine')} {cloud.machine_type}"
    if most.cost > flags.max_cost:
        raise UsageError(
            f"--max_cost {flags.max_cost:g}: the forecast is {what} (prices of {cloud.prices_as_of}). "
            "Nothing was started. Raise it, or see where the cost comes from with --forecast sample."
        )
    console.print("forecast", f"forecast {what}, at most {flags.max_cost:g} are allowed")


def make_forecast(flags: argparse.Namespace, mode: str, options: Any, console: Console) -> Forecast:
    """Reads and measures; ``mode`` is ``sample`` or ``full``.

    Raises:
        UsageError, ModelBundleError: a flag, the input, the bundle or the price table cannot be used.
    """
    table = read_prices(flags.prices)
    named = flags.forecast_machine_type or options.view_as(WorkerOptions).machine_type
    machine = find_machine(table, named) if named else None
    read, summary, settings = plan_input(flags)
    default = default_machine(bundle_bytes(settings), str(settings.request.precision))
    machine = machine or find_machine(table, default)
    sample = sample_input(summary, read)
    print_allowed(settings, console)
    found = measure(settings, sample.documents, summary.kept_schema)
    counts = _count(mode, read, summary, settings, sample, found)
    here = time_here(counts, found, cpu_name(), num_cores())
    precision, instructions = str(settings.request.precision), instruction_set()
    families = compare_families(here, counts.num_documents, machine.vcpus, table, precision, instructions)
    cloud = cost_of(here, machine, table, precision, _num_workers(options), instructions)
    manifest = settings.open_bundle().manifest
    # With --max_cost, nobody reads what other precisions would cost.
    speedups = _speedups(settings, manifest) if flags.forecast is not None else {}
    return Forecast(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        mode=mode,
        bundle={"name": settings.bundle_name, "digest": settings.bundle_digest},
        precision=precision,
        counts=counts,
        here=here,
        output=output_of(counts, found),
        dataflow=cloud.model_copy(update={"families": families}),
        other_precisions={
            str(other): cost_of_precision(here, machine, table, speedup, quality_loss(manifest, other))
            for other, speedup in speedups.items()
        },
    )


def _speedups(settings: EncodeSettings, manifest: BundleManifest) -> dict[Precision, float]:
    """Measures other precisions of a bundle whose quality in them is known; otherwise there is no choice."""
    return {} if manifest.int8 is None else measure_speedups(settings.bundle, settings.request)


def _count(
    mode: str,
    read: ReadOptions,
    summary: InputSummary,
    settings: EncodeSettings,
    sample: InputSample,
    found: Measurement,
) -> ForecastCounts:
    """Counts the lengths of the sample, or of the whole input."""
    bundle = settings.open_bundle()
    pace = Pace(settings, found.cells_per_second, from_start=mode == "full" or sample.is_whole)
    counter = LengthCounter(bundle, settings.request, found.max_batch_tokens, pace)
    if mode == "sample":
        lengths = counter.count(sample.documents)
        seen = (sample.num_total, sample.num_records, sample.num_dead)
        is_exact = sample.is_whole and len(sample.documents) == sample.num_records - sample.num_dead
    else:
        records = ReadCounts()
        lengths = counter.count(all_documents(summary, read, records))
        seen, is_exact = (records.num_records, records.num_records, records.num_dead), True
    return scale_counts(lengths, *seen, found.dead_fraction, is_exact=is_exact)


def _num_workers(options: Any) -> int | None:
    """Returns the number of workers from Beam's flags, None if unset."""
    workers = options.view_as(WorkerOptions)
    return workers.max_num_workers or workers.num_workers or None


def describe_forecast(forecast: Forecast, place: str) -> str:
    """Formats a forecast as lines of text, with the path it was saved to."""
    counts, here, cloud = forecast.counts, forecast.here, forecast.dataflow
    how = "counted" if counts.is_exact else "estimated from a sample"
    lines = [
        f"Forecast (nothing was run), saved to {place}",
        f"  documents  {counts.num_documents:,} ({how}), {counts.num_dead:,} of them dead letters",
        (
            f"  tokens     {counts.num_tokens:,}, {counts.tokens_per_document:.1f} per document; "
            f"{100 * counts.long_fraction:.1f} % of documents over the limit"
        ),
        *_histogram(forecast),
        *_unknown(counts),
        f"  padding    {100 * counts.padding:.1f} % of what the model computes",
        (
            f"  here       {here.tokens_per_second:,.0f} tokens/s in {forecast.precision}, measured on "
            f"{count(here.num_measured_documents, 'document')} ("
            f"{here.machine}, {count(here.num_cores, 'core')})"
        ),
        (
            f"             {format_duration(here.seconds)} with start-up, "
            f"{format_duration(here.model_seconds)} in the model"
        ),
        (
            f"  output     {format_bytes(forecast.output.num_bytes)}: "
            f"{count(forecast.output.num_rows, 'row')} of {forecast.output.bytes_per_row:,.0f} bytes"
        ),
        (
            f"  Dataflow   {cloud.machine_type}, {cloud.vcpu_hours:,.2f} vCPU hours if its cores are "
            f"{'' if cloud.speed == 1 else f'{cloud.speed:g} times '}as fast as these; prices of "
            f"{cloud.prices_as_of}, {cloud.region}"
        ),
    ]
    for workers in cloud.workers:
        what = "worker " if workers.num_workers == 1 else "workers"
        lines.append(
            f"             {workers.num_workers:>5,} {what}  {workers.hours:,.2f} hours  "
            f"{workers.cost:,.2f} {cloud.currency}"
        )
    for number, family in enumerate(cloud.families):
        lines.append(
            f"  {'' if number else 'per 10⁶':<11}{family.machine_type:<17}{family.instructions:<12}"
            f"{family.cost_per_million:,.2f} {cloud.currency}"
        )
    for name, other in forecast.other_precisions.items():
        lines.append(
            f"  {name:<9}  {other.speedup:.1f} times as fast here: {format_duration(other.model_seconds)} in "
            f"the model; 1 worker {other.hours:,.2f} hours, {other.cost:,.2f} {cloud.currency}; "
            f"{describe_loss(other.quality_loss)}"
        )
    unknown = unknown_warning(counts.unknown_token_fraction, counts.mostly_unknown_fraction)
    if unknown is not None:
        lines.append(f"  warning    {unknown}")
    if cloud.warning:
        lines.append(f"  warning    {cloud.warning}")
    return "\n".join(lines)


def _unknown(counts: ForecastCounts) -> list[str]:
    if not counts.unknown_token_fraction:
        return []
    return [
        (
            f"  unknown    {100 * counts.unknown_token_fraction:.2f} % of tokens; mostly unknown: "
            f"{100 * counts.mostly_unknown_fraction:.2f} % of documents"
        )
    ]


def _histogram(forecast: Forecast) -> list[str]:
    bars = length_bars(forecast.counts.documents_by_tokens)
    if len(bars) > _MAX_LINES:  # sum up the tail in one line
        tail = sum(bar.value for bar in bars[_MAX_LINES - 1 :])
        bars = [*bars[: _MAX_LINES - 1], type(bars[0])("more", tail, "")]
    top = max((bar.value for bar in bars), default=0) or 1
    total = sum(bar.value for bar in bars) or 1
    return [
        f"  {'≤ ' + bar.label if bar.label != 'more' else bar.label:>9}  "
        f"{'█' * round(_BAR_CHARACTERS * bar.value / top)} {100 * bar.value / total:.1f} %"
        for bar in bars
        if bar.value
    ]
