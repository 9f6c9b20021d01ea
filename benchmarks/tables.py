"""Formats figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.fidelity import Fidelity
from benchmarks.registry import PRECISIONS
from benchmarks.spread import Spread
from benchmarks.summary import JobRow, LoopRow, RatioRow

_NONE = "-"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Builds a table; every row must have as many cells as the header."""
    lines = [header, ["---"] * len(header), *rows]
    if any(len(line) != len(header) for line in lines):
        raise ValueError(f"a row does not have {len(header)} cells")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Formats a figure with three significant digits and thousands separators."""
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def spread(value: Spread) -> str:
    """Formats a median with its range."""
    return f"{number(value.median)} ({number(value.lowest)}-{number(value.highest)})"


def percent(value: float | None) -> str:
    """Formats a share as a percentage."""
    return _NONE if value is None else f"{100 * value:.1f} %"


def machine_lines(results: Mapping[str, Any]) -> str:
    """Returns the line about machine and versions."""
    machine, versions = results["machine"], dict(results["versions"])
    for system in results.get("systems", {}).values():
        versions |= system["ready"].get("versions", {})
    held = f", **held to {results['held_to']}**" if results.get("held_to") else ""
    return (
        f"{results['started_at'][:10]}; {machine['cpu']}, {machine['num_cores']} cores "
        f"({', '.join(machine['flags'])}){held}, {machine['memory_bytes'] / 1e9:.0f} GB; "
        f"{machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
        + "."
    )


def peak_line(best: Mapping[str, Spread]) -> str:
    """Returns the line about the speed of matrix products."""
    parts = [f"{name.replace('/', ', ')} {value.median / 1e9:,.0f}" for name, value in best.items()]
    return "Matrix products alone, in GFLOP/s: " + "; ".join(parts) + "."


def loop_table(
    rows: Sequence[LoopRow],
    labels: Mapping[str, str],
    settings: Mapping[str, str],
    fidelity: Mapping[str, Fidelity],
) -> str:
    """Builds the table of model loops."""
    header = [
        *("system", "documents/s", "documents per processor second", "tokens/s", "tokens/s in the model"),
        *("tokenizing", "padding"),
        *("of peak, model's shape", "of peak, large", "min cosine", "mean cosine"),
        *("max difference", "peak MB"),
        *("others' load", "setting"),
    ]
    cells = []
    for row in rows:
        close = fidelity.get(row.name)
        cells.append(
            [
                labels[row.name],
                spread(row.documents_per_second),
                spread(row.documents_per_cpu_second),
                number(row.tokens_per_second),
                number(row.model_tokens_per_second),
                percent(row.tokenize_share),
                percent(row.padding),
                percent(row.share_of_model_peak),
                percent(row.share_of_large_peak),
                f"{close.min_cosine:.6f}" if close else _NONE,
                f"{close.mean_cosine:.6f}" if close else _NONE,
                f"{close.max_difference:.1e}" if close else _NONE,
                number(row.peak_memory_bytes / 1e6),
                percent(row.others_share),
                settings[row.name],
            ]
        )
    return markdown(header, cells)


def quality_table(quality: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> str:
    """Builds the table of what the vectors are worth."""
    rows = [[labels[name], f"{q['sts']:.4f}", f"{q['ag_news']:.4f}"] for name, q in quality.items()]
    return markdown(["system", "STS benchmark", "neighbours on AG News"], rows)


def ratio_table(rows: Sequence[RatioRow], labels: Mapping[str, str]) -> str:
    """Builds the table of relative speed."""
    ours = list(rows[0].whole)
    header = ["against"]
    for our in ours:
        header += [labels[our], f"{labels[our]}, by processor time"]
    cells = []
    for row in rows:
        values = [text for our in ours for text in (spread(row.whole[our]), spread(row.cpu[our]))]
        cells.append([labels[row.name], *values])
    return markdown(header, cells)


def job_table(rows: Sequence[JobRow], labels: Mapping[str, str], fidelity: Mapping[str, Fidelity]) -> str:
    """Builds the table of jobs."""
    ours = list(rows[0].ratios)
    header = ["job", "documents/s", "start-up s", "peak MB", "min cosine", "others' load"]
    header += [f"{labels[our]} is faster by" for our in ours]
    cells = []
    for row in rows:
        close = fidelity.get(row.name)
        cells.append(
            [
                labels[row.name],
                spread(row.documents_per_second),
                number(row.startup_seconds),
                number(row.peak_memory_bytes / 1e6),
                f"{close.min_cosine:.6f}" if close else _NONE,
                percent(row.others_share),
                *(spread(row.ratios[our]) for our in ours),
            ]
        )
    return markdown(header, cells)


def overhead_line(overheads: Mapping[str, Spread], until: str) -> str:
    """Returns the line about the overhead of a job over the model loop."""
    parts = [
        f"{precision} {percent(overheads[precision].median)} ({percent(overheads[precision].lowest)} to "
        f"{percent(overheads[precision].highest)})"
        for precision in PRECISIONS
        if precision in overheads
    ]
    return f"The job over the model loop with tokenizing, a document, {until}: {', '.join(parts)}."
