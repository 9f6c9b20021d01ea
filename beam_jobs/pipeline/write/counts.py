"""Aggregates receipts into run counts and checks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

from beam_jobs.base.config import FailureLimits
from beam_jobs.base.units import count
from beam_jobs.pipeline.rows.cost import (
    ENCODED_WINDOWS_KEY,
    REPEATED_KEY,
    REUSED_KEY,
    REUSED_WINDOWS_KEY,
)
from beam_jobs.pipeline.write.class_counts import sum_classes
from beam_jobs.pipeline.write.timeline import sum_lengths
from beam_jobs.store.manifest import DEAD_LETTERS, RunCounts, WorkerCosts
from beam_jobs.store.receipt import Receipt

FailureKind = Literal["too_many_dead", "counts", "precision", "no_documents"]


def sum_receipts(
    receipts: Sequence[Receipt],
    num_read: int,
    num_dead_files: int,
    num_unchanged: int = 0,
    gold: tuple[str, str] | None = None,
) -> RunCounts:
    """Adds up the counts of receipts; ``gold``: see ``sum_classes``."""
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt.counts)
    weights, reasons, changes, window_changes = (
        _part(total, name) for name in ("weights/", "reason/", "change/", "window_change/")
    )
    return RunCounts(
        num_read=num_read,
        num_written=total["num_documents"],
        num_reused=total[REUSED_KEY],
        num_unchanged=num_unchanged,
        num_repeated=total[REPEATED_KEY],
        num_dead=sum(receipt.num_rows for receipt in receipts if receipt.kind == DEAD_LETTERS),
        num_blank=reasons.get("blank_text", 0),
        num_dead_files=num_dead_files,
        dead_by_reason=reasons,
        num_truncated=total["num_truncated"],
        num_tokens=total["num_tokens"],
        num_padded_tokens=total["num_padded_tokens"],
        num_lost_tokens=total["num_lost_tokens"],
        num_lost_words=total["num_lost_words"],
        num_unknown_tokens=total["num_unknown_tokens"],
        num_mostly_unknown=total["num_mostly_unknown"],
        num_half_blank=total["num_half_blank"],
        num_windowed=total["num_windowed"],
        num_windows=total["num_windows"],
        num_encoded_windows=total[ENCODED_WINDOWS_KEY],
        num_reused_windows=total[REUSED_WINDOWS_KEY],
        model_seconds=total["model_milliseconds"] / 1000,
        rows_by_weights=weights,
        documents_by_tokens=sum_lengths(total),
        changes=changes,
        window_changes=window_changes,
        **sum_classes(total, gold),  # type: ignore[arg-type]  # fields of several types
    )


def recount_classes(counts: RunCounts, receipts: Sequence[Receipt]) -> RunCounts:
    """Returns the counts of a run with those of its labels from all the rows that were copied.

    A run of changes has counted the labels of its own rows alone.
    """
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt.counts)
    gold = None if counts.gold is None else (counts.gold.output_column, counts.gold.column)
    return counts.model_copy(update=sum_classes(total, gold))


def _part(total: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in sorted(total.items()) if name.startswith(prefix)}


def worker_costs(receipts: Sequence[Receipt]) -> WorkerCosts:
    """Returns the maximum cost over all worker processes, how many there were, and the first one's wait."""
    computed = [receipt for receipt in receipts if receipt.process and receipt.ready_milliseconds]
    ends: dict[str, int] = {}
    for receipt in computed:
        ends[receipt.process] = max([ends.get(receipt.process, 0), *(end for _, end, _, _ in receipt.work)])
    return WorkerCosts(
        peak_memory_bytes=max((receipt.peak_memory_bytes for receipt in receipts), default=0),
        ready_seconds=max((receipt.ready_milliseconds for receipt in receipts), default=0) / 1000,
        machines=tuple(sorted({receipt.machine for receipt in receipts if receipt.machine}))[:20],
        num_processes=len(ends),
        # No two loads take the same time to the millisecond, or hardly ever.
        num_models=len({(receipt.process, receipt.ready_milliseconds) for receipt in computed}),
        idle_seconds=round((max(ends.values()) - min(ends.values())) / 1e9, 3) if ends else 0.0,
    )


def check_counts(
    counts: RunCounts, receipts: Sequence[Receipt], limits: FailureLimits, precision: str
) -> tuple[FailureKind | None, str | None]:
    """Checks a run; returns kind and message of its failure, or None twice."""
    accounted = counts.num_written + counts.num_reused + counts.num_unchanged + counts.num_dead
    if counts.num_read != accounted:
        return "counts", (
            f"Counts do not add up: {count(counts.num_read, 'document')} read, but "
            f"{counts.num_written} written + {counts.num_reused} reused + {counts.num_unchanged} unchanged "
            f"+ {counts.num_dead} dead = {accounted}. This is a bug; please report it with the manifest."
        )
    found = {receipt.precision for receipt in receipts if receipt.precision is not None}
    if found - {precision}:
        return "precision", f"Expected precision {precision}, but workers computed in {sorted(found)}."
    if (
        counts.num_read == 0
        and counts.num_dead_files <= limits.max_dead_files
        and not limits.allow_empty_input
    ):
        return "no_documents", (
            "The input files contain no documents. If that is intended, use --allow_empty_input."
        )
    if counts.num_dead_files > limits.max_dead_files:
        return "too_many_dead", (
            f"{count(counts.num_dead_files, 'file')} could not be read to the end, --max_dead_files "
            f"allows {limits.max_dead_files}; see the list in the manifest."
        )
    return _check_dead(counts, limits)


def _check_dead(counts: RunCounts, limits: FailureLimits) -> tuple[FailureKind | None, str | None]:
    num_dead = counts.num_dead if limits.fail_on_blank else counts.num_dead - counts.num_blank
    # Decimal, because 0.29 of 100 is 29, but less with binary floats.
    allowed = int(Decimal(str(limits.max_dead_fraction)) * counts.num_read)
    if num_dead <= allowed:
        return None, None
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.dead_by_reason.items())
    return "too_many_dead", (
        f"{num_dead:,} of {count(counts.num_read, 'document')} became dead letters ({reasons}); "
        f"--max_dead_fraction {limits.max_dead_fraction} allows {allowed}. All vectors and dead letters are "
        "kept; read the dead letters, then run again or raise the limit."
    )
