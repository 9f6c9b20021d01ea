"""Samples rows and dead letters of a run of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.batches import matrix
from beam_jobs.store.chain import HiddenIds
from beam_jobs.store.dataset import row_files, vector_columns
from beam_jobs.store.finished_run import FinishedRun

# Enough to show the shape of a collection, few enough for a page that opens quickly.
SAMPLE_ROWS = 2000
# Row groups read for the sample, of at most 32 MB each.
_SAMPLE_GROUPS = 20
# Rows decoded at a time.
_ROWS_AT_ONCE = 1024
_EXAMPLES_PER_REASON = 3
# Dead letters searched for examples of every reason.
_DEAD_ROWS = 20_000
_TEXT_CHARACTERS = 240
# The number of colours: a kept column with more values does not colour the map.
NUM_COLOURS = 8
_GROUP_CHARACTERS = 40


@dataclass(frozen=True)
class Sample:
    """Rows of a run: ``vectors`` float32[rows, dim], with the name and, if stored, the text of each.

    ``group_column`` is a kept column with few values, ``groups`` its value in each row.
    """

    vectors: np.ndarray
    names: list[str]
    texts: list[str] | None
    group_column: str | None = None
    groups: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClassExample:
    """A row of a classifier: its label, best score and, with a gold column, its true label."""

    name: str
    label: str
    score: float
    true_label: str | None
    text: str | None


@dataclass(frozen=True)
class DeadExample:
    """A dead letter; ``text`` is None if it may not be shown."""

    doc_id: str
    source: str
    message: str
    text: str | None


def sample_rows(run: FinishedRun, *, with_text: bool, num_rows: int = SAMPLE_ROWS) -> Sample | None:
    """Picks rows spread over a run, the same ones each time.

    Args:
        run: a run whose files match its manifest.
        with_text: whether texts and kept columns may be read.
        num_rows: approximate maximum number of rows.

    Returns:
        The sample, or None if the run has no vectors.
    """
    parts = list(pick_rows(run, num_rows, lambda schema: _columns(schema, with_text=with_text)))
    if not parts:
        return None
    table = pa.concat_tables(parts, promote_options="permissive")
    ((name, dim), *_) = vector_columns(parts[0].schema).items()
    vectors = matrix(table.column(name).combine_chunks(), dim)
    group_column = _group_column(table, name) if with_text else None
    groups = [] if group_column is None else [_shown(v) for v in table.column(group_column).to_pylist()]
    return Sample(vectors, row_names(table), row_texts(table) if with_text else None, group_column, groups)


def class_examples(run: FinishedRun, *, with_text: bool, num_rows: int = SAMPLE_ROWS) -> list[ClassExample]:
    """Picks rows of a classifier spread over a run; none of quantities, or of several labels.

    Args:
        run: a run whose files match its manifest.
        with_text: whether texts may be read.
        num_rows: approximate maximum number of rows.
    """
    gold = None if run.manifest.counts.gold is None else run.manifest.counts.gold.output_column

    def columns(schema: pa.Schema) -> list[str]:
        if "label" not in schema.names:
            return []
        wanted = ["doc_id", "word_index", "label", "scores", "top_scores"]
        wanted += ["text", "text_pair", "word", *([gold] if gold else [])] if with_text else []
        return [name for name in wanted if name in schema.names]

    found: list[ClassExample] = []
    for table in pick_rows(run, num_rows, columns):
        scores = table.column("scores" if "scores" in table.schema.names else "top_scores").to_pylist()
        names = row_names(table)
        texts: list[str | None] = [*(row_texts(table) or ())] or [None for _ in names]
        true: list[str | None] = [None for _ in names]
        if gold in table.schema.names:
            true = [None if value is None else _shown(value) for value in table.column(gold).to_pylist()]
        rows = zip(names, table.column("label").to_pylist(), scores, true, texts, strict=True)
        found += [
            ClassExample(name, label, max(some), value, text) for name, label, some, value, text in rows
        ]
    return found


def pick_rows(
    run: FinishedRun, num_rows: int, columns_of: Callable[[pa.Schema], list[str]]
) -> Iterator[pa.Table]:
    """Yields some rows of some row groups, both at equal distances.

    Args:
        run: a run whose files match its manifest.
        num_rows: approximate maximum number of rows.
        columns_of: returns the columns to read of a file; none skips it.
    """
    files = [(place, file) for place, file in row_files(run) if file.num_rows]
    total = sum(file.num_rows for _, file in files)
    if not total:
        return
    hidden = HiddenIds(run)
    wanted = _spread(total, _SAMPLE_GROUPS if total > num_rows else total)
    first, seen = 0, set()
    for place, file in files:
        part = run.chain[place]
        here = [row - first for row in wanted if first <= row < first + file.num_rows]
        first += file.num_rows
        if not here:
            continue
        with arrow_filesystem(part.folder).open_input_file(part.path_of(file)) as stream:
            parquet = pq.ParquetFile(stream)
            columns = columns_of(parquet.schema_arrow)
            if not columns:
                continue
            for group in _groups(parquet.metadata, here):
                if (place, file.path, group) in seen:
                    continue
                seen.add((place, file.path, group))
                in_group = parquet.metadata.row_group(group).num_rows
                # Of a small run every row is taken.
                share = max(num_rows // _SAMPLE_GROUPS, 1) if total > num_rows else in_group
                for rows in _take(parquet, group, columns, np.array(_spread(in_group, share))):
                    live = hidden.live(place, rows.column("doc_id").to_pylist())
                    yield rows.filter(pa.array(live))


def _take(parquet: pq.ParquetFile, group: int, columns: list[str], rows: np.ndarray) -> Iterator[pa.Table]:
    """Yields some rows of a row group, which is decoded batch by batch to bound memory."""
    first = 0
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, [group], columns, use_threads=False):
        here = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        first += batch.num_rows
        if len(here):
            yield pa.Table.from_batches([batch.take(pa.array(here))])


def _spread(total: int, number: int) -> list[int]:
    """Returns positions at equal distances.

    >>> _spread(10, 3), _spread(2, 5)
    ([1, 5, 8], [0, 1])
    """
    number = min(total, number)
    return [int((index + 0.5) * total / number) for index in range(number)]


def _groups(metadata: Any, rows: Sequence[int]) -> list[int]:
    """Returns the indexes of the row groups that contain the given rows of a file."""
    ends = np.cumsum([metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)])
    return sorted({int(np.searchsorted(ends, row, side="right")) for row in rows})


def _columns(schema: pa.Schema, *, with_text: bool) -> list[str]:
    vectors = list(vector_columns(schema))[:1]
    if not vectors:
        return []
    if not with_text:
        places = [name for name in ("window_index", "word_index") if name in schema.names]
        return ["doc_id", *places, *vectors]
    other_vectors = set(list(vector_columns(schema))[1:])
    return [name for name in schema.names if name not in other_vectors]


def row_names(table: pa.Table) -> list[str]:
    """Returns the ids of rows, with the index of their window or word."""
    names = [str(name) for name in table.column("doc_id").to_pylist()]
    for column in ("window_index", "word_index"):
        if column in table.schema.names:
            what = column.removesuffix("_index")
            numbers = table.column(column).to_pylist()
            return [f"{name}, {what} {number}" for name, number in zip(names, numbers, strict=True)]
    return names


def row_texts(table: pa.Table) -> list[str] | None:
    """Returns the words or texts of rows, cut to what the page shows; None if they are not stored."""
    columns = set(table.schema.names)
    if "word" in columns:
        return [str(word) for word in table.column("word").to_pylist()]
    if "text" not in columns:
        return None
    texts = [shorten(text) for text in table.column("text").to_pylist()]
    if "text_pair" in columns:
        seconds = map(shorten, table.column("text_pair").to_pylist())
        return [f"{first} / {second}" for first, second in zip(texts, seconds, strict=True)]
    return texts


def _group_column(table: pa.Table, vector: str) -> str | None:
    """Returns the first kept column with two to eight distinct values, if any."""
    names = table.schema.names
    behind = names.index(vector) + 1
    for name in names[behind:]:
        kind = table.schema.field(name).type
        if name == "text" or pa.types.is_nested(kind) or pa.types.is_floating(kind):
            continue
        values = {_shown(value) for value in table.column(name).unique().to_pylist()}
        if 2 <= len(values) <= NUM_COLOURS:
            return str(name)
    return None


def _shown(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= _GROUP_CHARACTERS else text[: _GROUP_CHARACTERS - 1] + "…"


def shorten(text: str) -> str:
    """Cuts a text to the length that the page shows."""
    return text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"


def dead_examples(run: FinishedRun, *, with_text: bool) -> dict[str, list[DeadExample]]:
    """Returns up to three dead letters per reason, from about the first 20,000."""
    found: dict[str, list[DeadExample]] = {}
    seen = 0
    filesystem = arrow_filesystem(run.folder)
    for file in run.dead_letter_files:
        with filesystem.open_input_file(run.path_of(file)) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(batch_size=1000):
                _add_examples(found, batch, with_text=with_text)
                seen += batch.num_rows
                if seen >= _DEAD_ROWS or _is_enough(found, run):
                    return found
    return found


def _add_examples(found: dict[str, list[DeadExample]], batch: pa.RecordBatch, *, with_text: bool) -> None:
    reasons = batch.column("reason").to_pylist()
    for row, reason in enumerate(reasons):
        examples = found.setdefault(reason, [])
        if len(examples) < _EXAMPLES_PER_REASON:
            (letter,) = batch.slice(row, 1).to_pylist()
            text = shorten(letter["text"]) if with_text and letter["text"] else None
            message = shorten(letter["message"])
            examples.append(DeadExample(letter["doc_id"], letter["source"], message, text))


def _is_enough(found: dict[str, list[DeadExample]], run: FinishedRun) -> bool:
    wanted = run.manifest.counts.dead_by_reason
    return all(
        len(found.get(reason, ())) >= min(count, _EXAMPLES_PER_REASON) for reason, count in wanted.items()
    )
