"""The section on unknown tokens: how many there are, and the documents with the most of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from beam_jobs.base.units import count
from beam_jobs.base.unknown_tokens import unknown_warning
from beam_jobs.report.markup import note, section, table
from beam_jobs.report.row_sample import SAMPLE_ROWS, pick_rows, row_names, row_texts
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.row_columns import ADDED, has_added

_SHOWN = 5


def unknown_section(run: FinishedRun, *, with_text: bool) -> str:
    """Builds the section from the manifest and a sample of rows; empty without unknown tokens.

    Args:
        run: a run whose files match its manifest.
        with_text: whether texts may be read.
    """
    counts = run.manifest.counts
    if not counts.num_unknown_tokens:
        return ""
    told = unknown_warning(counts.unknown_token_fraction, counts.mostly_unknown_fraction)
    shown = note(told) if told else ""
    summed = note(
        f"{count(counts.num_unknown_tokens, 'token')} ({counts.unknown_token_fraction:.2%}) outside the "
        f"vocabulary; mostly unknown: {count(counts.num_mostly_unknown, 'document')}. The largest fractions "
        "among some of the rows:"
    )
    return section("Unknown tokens", shown, summed, _most_unknown(run, with_text=with_text))


def _most_unknown(run: FinishedRun, *, with_text: bool) -> str:
    """Builds the table of the rows with the largest fraction of unknown tokens, one per document."""

    def columns_of(schema: pa.Schema) -> list[str]:
        if not has_added(schema):
            return []
        more = ["window_index", "text"] if with_text else ["window_index"]
        return ["doc_id", "num_tokens", ADDED.name, *(name for name in more if name in schema.names)]

    empty = pa.schema([pa.field("doc_id", pa.string()), pa.field("num_tokens", pa.int32()), ADDED])
    parts = list(pick_rows(run, SAMPLE_ROWS, columns_of))
    rows = pa.concat_tables(parts or [empty.empty_table()], promote_options="permissive")
    unknown = rows.column(ADDED.name).fill_null(0).to_numpy()
    fractions = unknown / np.maximum(rows.column("num_tokens").to_numpy(), 1)
    ids = rows.column("doc_id").to_pylist()
    best: dict[str, int] = {}
    for at in np.argsort(-fractions, kind="stable").tolist():
        if unknown[at]:
            best.setdefault(ids[at], at)
    rows = rows.take(list(best.values())[:_SHOWN])
    names, texts = row_names(rows), row_texts(rows)
    numbers = zip(rows.column(ADDED.name).to_pylist(), rows.column("num_tokens").to_pylist(), strict=True)
    shown = [
        (name, f"{some:,} of {tokens:,}", "" if texts is None else texts[at])
        for at, (name, (some, tokens)) in enumerate(zip(names, numbers, strict=True))
    ]
    head = ("document", "unknown tokens", "text")
    return table(head, shown)
