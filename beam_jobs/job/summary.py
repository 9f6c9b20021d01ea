"""Prints a job's plan before it starts and its summary after it has ended."""

from __future__ import annotations

import sys

from beam_jobs.base.units import count, describe_loss, format_bytes, format_duration
from beam_jobs.base.unknown_tokens import unknown_warning
from beam_jobs.job.console.console import Console, Severity
from beam_jobs.job.plan import print_allowed
from beam_jobs.pipeline.build import JobPlan
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import (
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    REPORT_NAME,
    GoldCounts,
    RunCounts,
    RunManifest,
)
from model_bundle.inference.precision import quality_loss

# Measuring takes about ten seconds, which pays only for runs that spent longer than this in the model.
_WORTH_MEASURING_SECONDS = 30.0
_MOST_LABELS = 6


def print_plan(plan: JobPlan, console: Console) -> None:
    """Prints warnings, reuse notes, and what will be read and computed."""
    files, encode = plan.summary.files, plan.encode
    if encode.classes is None:
        what = f"{', '.join(map(str, encode.dims))} dimensions"
    else:
        what = count(len(encode.classes.names), "label")
    for warning in plan.summary.warnings:
        console.print("warning", warning, "WARNING")
    print_allowed(encode, console)
    for note in () if plan.reuse is None else plan.reuse.notes:
        console.print("reuse", note)
    console.print(
        "plan",
        f"{count(len(files), 'input file')}, {format_bytes(plan.summary.total_bytes)}, text from "
        f"{_columns(plan)}; bundle {encode.bundle_name} "
        f"({encode.bundle_digest[:12]}), {what}, {encode.request.precision}; run {plan.write.run_id}",
    )


def print_summary(manifest: RunManifest, plan: JobPlan, console: Console) -> None:
    """Prints counts, where the files are and how to open them."""
    root = filesystem.join(plan.write.output, plan.write.run_id)
    title = "Run finished" if manifest.failure is None else "Run FAILED"
    lines = [f"{title}: {root}", *_count_lines(manifest)]
    lines += [f"  reused     {note}" for note in (() if plan.reuse is None else plan.reuse.notes)]
    files = [file for file in manifest.files if file.kind in (EMBEDDINGS, CLASSES)]
    if files:
        folder = f"{root}/{files[0].kind}"
        total = format_bytes(sum(file.num_bytes for file in files))
        lines += [f"  files      {len(files)} in {folder}, {total}"]
        lines += [f"  open       duckdb -c \"SELECT * FROM '{folder}/*.parquet' LIMIT 5\""]
        lines += [f"             pandas.read_parquet('{folder}')"]
    if filesystem.exists(filesystem.join(root, REPORT_NAME)):
        lines += [f"  report     {root}/{REPORT_NAME}"]
    if manifest.counts.num_dead:
        lines += [f"  dead       SELECT reason, message, doc_id FROM '{root}/{DEAD_LETTERS}/*.parquet'"]
    lines += [f"  not read   {f.source}: {f.message}" for f in manifest.dead_files[:5]]
    lines += _other_precisions(manifest, plan)
    facts = {"run": root, "failure": manifest.failure, "counters": manifest.counts.model_dump(mode="json")}
    severity: Severity = "INFO" if manifest.failure is None else "ERROR"
    console.print("summary", "\n".join(lines), severity, facts)
    counts = manifest.counts
    warning = unknown_warning(counts.unknown_token_fraction, counts.mostly_unknown_fraction)
    if warning is not None:
        console.print("warning", warning, "WARNING")


def _columns(plan: JobPlan) -> str:
    names, num_pair = plan.summary.text_columns, len(plan.read.text_pair_columns)
    if not num_pair:
        return "+".join(names) or "lines"
    return f"{'+'.join(names[:-num_pair])} with {'+'.join(names[-num_pair:])}"


def _count_lines(manifest: RunManifest) -> list[str]:
    counts = manifest.counts
    rate = counts.num_tokens / counts.model_seconds if counts.model_seconds else 0
    in_model = format_duration(counts.model_seconds)
    cells = counts.num_padded_tokens
    padding = f"{100 * (1 - counts.num_tokens / cells):.1f} %" if cells else "none"
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.dead_by_reason.items())
    lines = [
        f"  documents  {counts.num_read:,} read = {counts.num_written:,} written + "
        + (f"{counts.num_reused:,} reused + " if counts.num_reused else "")
        + (f"{counts.num_unchanged:,} unchanged + " if counts.num_unchanged else "")
        + f"{counts.num_dead:,} dead"
        + (f" ({reasons})" if reasons else ""),
        f"  tokens     {counts.num_tokens:,}, {rate:,.0f} tokens/s in the model, padding {padding}",
        f"  time       {format_duration(manifest.seconds)} with start-up, {in_model} in the model",
    ]
    if counts.rows_by_label or counts.num_without_label:
        lines.append(f"  labels     {_label_line(counts)}")
    if counts.gold is not None:
        lines.append(f"  gold       {_gold_line(counts.gold)}")
    if counts.num_repeated:
        lines.append(
            f"  repeated   {count(counts.num_repeated, 'document')} reused the result of an identical text"
        )
    if counts.changes:
        changes = ", ".join(f"{number:,} {change}" for change, number in counts.changes.items())
        lines.append(f"  changes    {changes}")
    if manifest.workers.peak_memory_bytes:
        lines.append(f"  memory     {format_bytes(manifest.workers.peak_memory_bytes)} peak of one worker")
    return [*lines, *_text_lines(counts)]


def _text_lines(counts: RunCounts) -> list[str]:
    """Returns the lines on texts that the model saw in part or did not know, and on dead files."""
    lines: list[str] = []
    if counts.num_truncated:
        lines.append(
            f"  truncated  {count(counts.num_truncated, 'document')} "
            f"({count(counts.num_lost_tokens, 'token')} past the limit)"
        )
    if counts.num_unknown_tokens:
        lines.append(
            f"  unknown    {count(counts.num_unknown_tokens, 'token')} "
            f"({100 * counts.unknown_token_fraction:.2f} %); mostly unknown: "
            f"{count(counts.num_mostly_unknown, 'document')}"
        )
    if counts.num_half_blank:
        lines.append(
            f"  half blank {count(counts.num_half_blank, 'pair')} with one blank text, scored as it is"
        )
    lines += _window_lines(counts)
    if counts.num_dead_files:
        lines.append(f"  dead files {counts.num_dead_files:,} could not be read to the end")
    return lines


def _window_lines(counts: RunCounts) -> list[str]:
    """Returns how many windows there were, and how many of them were copied."""
    if counts.num_reused_windows:
        embedded, reused = counts.num_encoded_windows, counts.num_reused_windows
        parts = f"{embedded + reused:,} = {embedded:,} embedded + {reused:,} reused"
        return [f"  windows    {parts}, of documents whose text is new"]
    if counts.num_windowed:
        past = count(counts.num_windowed, "document")
        return [f"  windows    {counts.num_windows:,} of {past} past the limit"]
    return []


def _label_line(counts: RunCounts) -> str:
    """Returns the labels with their rows, the largest first, for one line."""
    parts = [f"{name} {number:,}" for name, number in [*counts.rows_by_label.items()][:_MOST_LABELS]]
    rest = len(counts.rows_by_label) - _MOST_LABELS
    if rest > 0:
        parts.append(f"{rest} more")
    if counts.num_without_label:
        parts.append(f"without any {counts.num_without_label:,}")
    return ", ".join(parts)


def _gold_line(gold: GoldCounts) -> str:
    line = (
        f"accuracy {100 * gold.accuracy:.2f} % of {count(gold.num_rows, 'row')} with a label in {gold.column}"
    )
    for number, what in (
        (gold.num_missing, "without one"),
        (gold.num_unknown, "with another than the bundle's"),
    ):
        line += f", {number:,} {what}" if number else ""
    return line


def _other_precisions(manifest: RunManifest, plan: JobPlan) -> list[str]:
    """Returns lines on what faster precisions would have saved, measured if the run was long enough."""
    from model_bundle.base.machine import has_fast_bfloat16
    from model_bundle.inference.speedups import measure_speedups

    if manifest.precision != "float32":
        return []
    seconds = manifest.counts.model_seconds
    # Where worker processes computed, measuring would import TensorFlow and load the model only for this.
    is_elsewhere = plan.redistribute or "tensorflow" not in sys.modules
    if seconds < _WORTH_MEASURING_SECONDS or is_elsewhere:
        if not has_fast_bfloat16():
            return []
        return ["  faster     this processor multiplies bfloat16 in hardware: try --precision bfloat16"]
    bundle = plan.encode.open_bundle().manifest
    return [
        f"  faster     --precision {precision} would have taken {format_duration(seconds / speedup)} instead "
        f"of {format_duration(seconds)} in the model (measured now: {speedup:.1f} times as fast; "
        f"{describe_loss(quality_loss(bundle, precision))})"
        for precision, speedup in measure_speedups(plan.encode.bundle, plan.encode.request).items()
        if speedup > 1
    ]
