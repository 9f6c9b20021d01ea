"""A forecast as a person reads it."""

from __future__ import annotations

from beam_jobs.base.units import format_bytes, format_duration
from beam_jobs.job.forecast.estimate import Forecast
from beam_jobs.report.sections import length_bars

_BAR_CHARACTERS = 40
_MAX_LINES = 16


def describe_forecast(forecast: Forecast, place: str) -> str:
    """Tells it in lines, with where it was saved."""
    counts, here, cloud = forecast.counts, forecast.here, forecast.dataflow
    how = "counted" if counts.is_exact else "estimated from a sample"
    lines = [
        f"Forecast; nothing was run. Saved: {place}",
        f"  documents  {counts.num_documents:,} ({how}), {counts.num_dead:,} of them without a row",
        (
            f"  tokens     {counts.num_tokens:,}, {counts.tokens_per_document:.1f} a document; "
            f"{100 * counts.long_fraction:.1f} % of documents over the limit"
        ),
        *_histogram(forecast),
        f"  padding    {100 * counts.padding:.1f} % of what the model computes",
        (
            f"  here       {here.tokens_per_second:,.0f} tokens/s in {forecast.precision}, measured on "
            f"{here.num_measured_documents:,} documents ({here.machine}, {here.num_cores} cores)"
        ),
        (
            f"             {format_duration(here.seconds)} with start-up, "
            f"{format_duration(here.model_seconds)} in the model"
        ),
        (
            f"  output     {format_bytes(forecast.output.num_bytes)}: {forecast.output.num_rows:,} rows of "
            f"{forecast.output.bytes_per_row:,.0f} bytes"
        ),
        (
            f"  Dataflow   {cloud.machine_type}, {cloud.vcpu_hours:,.2f} vCPU hours if its cores are as fast "
            f"as these; prices of {cloud.prices_as_of}, {cloud.region}"
        ),
    ]
    for workers in cloud.workers:
        what = "worker " if workers.num_workers == 1 else "workers"
        lines.append(
            f"             {workers.num_workers:>5,} {what}  {workers.hours:,.2f} hours  "
            f"{workers.cost:,.2f} {cloud.currency}"
        )
    if cloud.warning:
        lines.append(f"  warning    {cloud.warning}")
    return "\n".join(lines)


def _histogram(forecast: Forecast) -> list[str]:
    bars = length_bars(forecast.counts.documents_by_tokens)
    if len(bars) > _MAX_LINES:  # the tail on one line
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
