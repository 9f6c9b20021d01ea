"""Converts counts and measured rates to hours, bytes and money."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from beam_jobs.job.dataflow.prices import Machine, PriceTable, find_machine
from beam_jobs.job.forecast.count import LengthCounts
from beam_jobs.job.forecast.measure import Measurement

# A job's time over that of a plain loop over its model, measured in benchmarks/: under 3 % more,
_JOB_OVERHEAD = 1.03
# plus what Beam needs to set up, commit and report, without loading the model.
_JOB_SECONDS = 4.0
_WORKERS = (1, 10, 100)
FORECAST_NAME = "forecast.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ForecastCounts(_Part):
    """Counts of the input: documents, dead letters, and tokens that the model computes.

    ``is_exact``: every document was counted. ``documents_by_tokens`` is as in a run's manifest, but before
    truncation.
    """

    is_exact: bool
    num_documents: int
    num_dead: int
    num_tokens: int
    num_padded_tokens: int
    padding: float
    tokens_per_document: float
    long_fraction: float
    lost_token_fraction: float
    unknown_token_fraction: float
    mostly_unknown_fraction: float
    documents_by_tokens: dict[int, int]


class ForecastHere(_Part):
    """What was measured on this machine, and how long the run would take on it."""

    machine: str
    num_cores: int
    num_measured_documents: int
    tokens_per_second: float
    max_batch_tokens: int
    load_seconds: float
    model_seconds: float
    seconds: float


class ForecastOutput(_Part):
    """Expected size of the output."""

    num_rows: int
    num_bytes: int
    bytes_per_row: float


class ForecastWorkers(_Part):
    """Hours and cost with a number of workers of the chosen machine type."""

    num_workers: int
    hours: float
    cost: float


class ForecastFamily(_Part):
    """Cost of a million documents on a family's machine, without its start.

    ``speed`` is that of a core, relative to one of this machine.
    """

    machine_type: str
    instructions: str
    speed: float
    hours_per_million: float
    cost_per_million: float


class ForecastCloud(_Part):
    """Hours and cost on Dataflow by the named price table; ``speed`` of a core, relative to here."""

    machine_type: str
    prices_as_of: str
    region: str
    currency: str
    vcpu_hours: float
    workers: tuple[ForecastWorkers, ...]
    warning: str | None = None
    speed: float = 1.0
    families: tuple[ForecastFamily, ...] = ()


class ForecastPrecision(_Part):
    """Another precision that the bundle has: times, cost of one worker, and what it loses in quality.

    ``speedup``: how many times as fast as the forecast's own precision, measured on this machine.
    ``quality_loss``: percent of the rank correlation of similarities; None if it was not measured.
    """

    speedup: float
    model_seconds: float
    hours: float
    cost: float
    quality_loss: float | None


class Forecast(_Part):
    """The content of ``forecast.json``."""

    format_version: int = 1
    made_at: str
    mode: str
    bundle: dict[str, Any]
    precision: str
    counts: ForecastCounts
    here: ForecastHere
    output: ForecastOutput
    dataflow: ForecastCloud
    other_precisions: dict[str, ForecastPrecision] = {}


def scale_counts(
    counts: LengthCounts,
    num_total: int,
    num_records: int,
    num_dead: int,
    dead_fraction: float,
    *,
    is_exact: bool,
) -> ForecastCounts:
    """Scales the counts of a sample to the whole input.

    Args:
        counts: of the sampled documents.
        num_total: records in the input.
        num_records, num_dead: records read, and the dead letters among them.
        dead_fraction: share of documents for which the model returned no result.
        is_exact: whether the counts are of the whole input.
    """
    seen = max(counts.num_documents + counts.num_blank, 1)
    readable = num_total * (1 - num_dead / max(num_records, 1))
    with_text = readable * counts.num_documents / seen
    scale = with_text / max(counts.num_documents, 1)
    alive = with_text * (1 - dead_fraction)
    num_tokens, num_padded = counts.num_tokens * scale, counts.num_padded_tokens * scale
    lengths = {bound: round(number * scale) for bound, number in counts.documents_by_tokens.items()}
    return ForecastCounts(
        is_exact=is_exact,
        num_documents=num_total,
        num_dead=round(num_total - alive),
        num_tokens=round(num_tokens),
        num_padded_tokens=round(num_padded),
        padding=1 - num_tokens / num_padded if num_padded else 0.0,
        tokens_per_document=counts.num_tokens / max(counts.num_documents, 1),
        long_fraction=counts.num_long / max(counts.num_documents, 1),
        lost_token_fraction=counts.num_lost_tokens / max(counts.num_tokens + counts.num_lost_tokens, 1),
        unknown_token_fraction=counts.num_unknown_tokens / max(counts.num_tokens, 1),
        mostly_unknown_fraction=counts.num_mostly_unknown / max(counts.num_documents, 1),
        documents_by_tokens=lengths,
    )


def time_here(counts: ForecastCounts, found: Measurement, machine: str, num_cores: int) -> ForecastHere:
    """Estimates how long the run would take on this machine."""
    model_seconds = counts.num_padded_tokens / found.cells_per_second
    return ForecastHere(
        machine=machine,
        num_cores=num_cores,
        num_measured_documents=found.num_documents,
        tokens_per_second=round(found.tokens_per_second, 1),
        max_batch_tokens=found.max_batch_tokens,
        load_seconds=round(found.load_seconds, 2),
        model_seconds=round(model_seconds, 2),
        seconds=round(model_seconds * _JOB_OVERHEAD + found.load_seconds + _JOB_SECONDS, 2),
    )


def output_of(counts: ForecastCounts, found: Measurement) -> ForecastOutput:
    """Estimates how much would be written."""
    num_rows = round((counts.num_documents - counts.num_dead) * found.rows_per_document)
    num_bytes = round(num_rows * found.bytes_per_row)
    return ForecastOutput(num_rows=num_rows, num_bytes=num_bytes, bytes_per_row=round(found.bytes_per_row, 1))


def cost_of(
    here: ForecastHere,
    machine: Machine,
    table: PriceTable,
    precision: str,
    num_workers: int | None,
    instructions: str = "",
) -> ForecastCloud:
    """Estimates hours and cost of a machine type.

    Args:
        here: what was measured on this machine, whose cores have ``instructions``.
        machine: the machine type; its cores are as fast as these, unless the table has speeds for both.
        table: prices and speeds.
        precision: of the run.
        num_workers: None for several numbers.
        instructions: the instruction set of this machine.
    """
    speed = table.relative_speed(machine.instructions, instructions, precision)
    hours_of_one = _hours_on(machine, here, speed)
    start_hours = table.start_seconds / 3600
    workers = tuple(
        ForecastWorkers(
            num_workers=number,
            hours=round(hours_of_one / number + start_hours, 4),
            cost=round((hours_of_one + start_hours * number) * machine.price_per_hour, 4),
        )
        for number in ((num_workers,) if num_workers else _WORKERS)
    )
    slow = precision == "bfloat16" and not machine.has_bfloat16
    return ForecastCloud(
        machine_type=machine.name,
        prices_as_of=table.as_of,
        region=table.region,
        currency=table.currency,
        vcpu_hours=round(hours_of_one * machine.vcpus, 4),
        workers=workers,
        warning=f"{machine.name} has no bfloat16 instructions: the run will take much longer than estimated."
        if slow
        else None,
        speed=round(speed, 2),
    )


def compare_families(
    here: ForecastHere,
    num_documents: int,
    vcpus: int,
    table: PriceTable,
    precision: str,
    instructions: str,
) -> tuple[ForecastFamily, ...]:
    """Estimates the cost of a million documents for every family with a known speed, cheapest first."""
    found = []
    for name, family in table.machine_families.items():
        if precision not in table.speeds.get(family.instructions, {}):
            continue  # unknown, or without instructions for this precision
        machine = find_machine(table, f"{name}-{vcpus}")
        speed = table.relative_speed(family.instructions, instructions, precision)
        hours = _hours_on(machine, here, speed) / max(num_documents, 1) * 1e6
        found.append(
            ForecastFamily(
                machine_type=machine.name,
                instructions=family.instructions,
                speed=round(speed, 2),
                hours_per_million=round(hours, 4),
                cost_per_million=round(hours * machine.price_per_hour, 4),
            )
        )
    return tuple(sorted(found, key=lambda each: each.cost_per_million))


def _hours_on(machine: Machine, here: ForecastHere, speed: float) -> float:
    """Returns the hours that one machine computes, without its start."""
    return here.model_seconds * _JOB_OVERHEAD * here.num_cores / machine.cores / speed / 3600


def cost_of_precision(
    here: ForecastHere, machine: Machine, table: PriceTable, speedup: float, quality_loss: float | None
) -> ForecastPrecision:
    """Estimates the same for another precision, which is ``speedup`` times as fast here, with one worker."""
    faster = here.model_copy(update={"model_seconds": round(here.model_seconds / speedup, 2)})
    one = cost_of(faster, machine, table, "", 1).workers[0]
    return ForecastPrecision(
        speedup=round(speedup, 2),
        model_seconds=faster.model_seconds,
        hours=one.hours,
        cost=one.cost,
        quality_loss=None if quality_loss is None else round(quality_loss, 3),
    )
