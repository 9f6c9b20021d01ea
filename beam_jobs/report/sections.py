"""The sections of a report, each built from the manifest or the sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from beam_jobs.base.units import count, format_bytes, format_duration
from beam_jobs.report.charts import Bar, bar_chart, scatter, share_bar, short
from beam_jobs.report.markup import note, pairs, safe, section, table, tile
from beam_jobs.report.projection import Projection, neighbours_of, spread_rows
from beam_jobs.report.row_sample import DeadExample, Sample
from beam_jobs.store.manifest import CLASSES, EMBEDDINGS, RunManifest

_LABELS = 10
_NEIGHBOUR_ROWS, _NEIGHBOURS = 6, 4


def tiles(manifest: RunManifest) -> str:
    """Builds the tiles with the key figures."""
    counts = manifest.counts
    rate = counts.num_tokens / counts.model_seconds if counts.model_seconds else 0.0
    rows = sum(file.num_rows for file in manifest.files if file.kind in (EMBEDDINGS, CLASSES))
    reused = f"{counts.num_reused:,} of them reused" if counts.num_reused else ""
    num_bytes = sum(file.num_bytes for file in manifest.files)
    in_model = format_duration(counts.model_seconds)
    found = [
        tile("documents read", f"{counts.num_read:,}"),
        tile("with rows", f"{counts.num_written + counts.num_reused:,}", reused or count(rows, "row")),
        tile("dead letters", f"{counts.num_dead:,}", f"{counts.num_blank:,} of them blank"),
        tile("tokens", short(counts.num_tokens), f"{rate:,.0f} per second in the model"),
        tile("time", format_duration(manifest.seconds), f"{in_model} in the model, all workers"),
        tile("files", f"{len(manifest.files):,}", format_bytes(num_bytes)),
    ]
    if counts.num_unknown_tokens:
        share = f"{counts.unknown_token_fraction:.2%} of the tokens"
        found.append(tile("unknown tokens", short(counts.num_unknown_tokens), share))
    if counts.num_unchanged:
        found.append(tile("unchanged", f"{counts.num_unchanged:,}", "their rows are in the previous run"))
    if manifest.workers.peak_memory_bytes:
        found.append(tile("memory", format_bytes(manifest.workers.peak_memory_bytes), "peak of one worker"))
    return f'<div class="tiles">{"".join(found)}</div>'


def changes(manifest: RunManifest) -> str:
    """Builds the table of documents by their change since the previous run."""
    counts, previous = manifest.counts, manifest.previous
    if previous is None or not (counts.changes or counts.num_unchanged):
        return ""
    rows = [(change, f"{number:,}") for change, number in counts.changes.items()]
    rows += [("unchanged, rows in the previous run", f"{counts.num_unchanged:,}")] * bool(
        counts.num_unchanged
    )
    tables = table(("change", "documents"), rows, numbers=(1,))
    if counts.window_changes:
        windows = [(change, f"{number:,}") for change, number in counts.window_changes.items()]
        windows += [("copied from the previous run", f"{counts.num_reused_windows:,}")]
        tables += table(("change", "windows of changed documents"), windows, numbers=(1,))
    return section(f"Changes since {previous.run_id}", tables)


def length_histogram(manifest: RunManifest) -> str:
    """Builds the histogram of documents by number of tokens."""
    bars = length_bars(manifest.counts.documents_by_tokens)
    if not bars:
        return ""
    chart = bar_chart(
        bars,
        title="Documents by number of tokens",
        below="tokens per document after truncation (upper bound of each class)",
        label_every=max(math.ceil(len(bars) / _LABELS), 1),
    )
    return section("Document lengths", chart)


def length_bars(documents_by_tokens: Mapping[int, int]) -> list[Bar]:
    """Merges the length classes of a manifest to bars.

    The classes are of equal width if no text has more than 1,024 tokens; else each is twice as wide as the
    one before.
    """
    if not documents_by_tokens:
        return []
    longest = max(documents_by_tokens)
    if longest <= 1024:
        # The width of the manifest's widest class up to that length.
        step = next(step for top, step in ((128, 8), (256, 16), (512, 32), (1024, 128)) if longest <= top)
        bounds = list(range(0, math.ceil(longest / step) * step + 1, step))
    else:
        bounds = [0, *(2**power for power in range(5, math.ceil(math.log2(longest)) + 1))]
    bars = []
    for low, high in pairwise(bounds):
        number = sum(documents for bound, documents in documents_by_tokens.items() if low < bound <= high)
        bars.append(Bar(f"{high:,}", number, f"{low + 1:,} to {high:,} tokens: {count(number, 'document')}"))
    return bars


def throughput(manifest: RunManifest) -> str:
    """Builds the chart of tokens per second over time, or of documents if nothing was computed."""
    timeline = manifest.timeline
    if timeline is None:
        return ""
    counted = timeline.tokens if any(timeline.tokens) else timeline.documents
    what = "tokens" if any(timeline.tokens) else "documents"
    width = timeline.bucket_seconds
    bars = []
    for index, (amount, documents) in enumerate(zip(counted, timeline.documents, strict=True)):
        # The last bucket may be shorter than the others.
        lasted = max(min(width, timeline.seconds - index * width), 1e-3)
        number = count(round(documents), "document")
        begin = f"{index * width:g} s" if width < 1 else format_duration(index * width)
        hint = f"from {begin}: {amount / lasted:,.0f} {what}/s, {number}"
        bars.append(Bar(begin, amount / lasted, hint))
    chart = bar_chart(
        bars,
        title=f"{what} per second over time",
        below=f"time since the first batch was started, in steps of {width:g} s",
        label_every=max(math.ceil(len(bars) / _LABELS), 1),
    )
    return section(f"Throughput: {what} per second", chart)


def padding_and_truncation(manifest: RunManifest) -> str:
    """Builds the shares of padding in the computed tokens and of tokens lost to truncation."""
    counts = manifest.counts
    parts = []
    if counts.num_padded_tokens:
        filler = max(counts.num_padded_tokens - counts.num_tokens, 0)
        drawn = share_bar(
            [("tokens of documents", counts.num_tokens, "main"), ("padding", filler, "second")],
            title="Share of padding in the tokens computed",
        )
        parts.append(f"<h3>Padding</h3>{drawn}")
    whole = counts.num_tokens + counts.num_lost_tokens
    if counts.num_lost_tokens and whole:
        drawn = share_bar(
            [("kept", counts.num_tokens, "main"), ("cut off", counts.num_lost_tokens, "second")],
            title="Share of tokens that truncation cut off",
        )
        told = note(f"{count(counts.num_truncated, 'document')} truncated at the limit.")
        parts.append(f"<h3>Truncation</h3>{drawn}{told}")
    elif counts.num_padded_tokens:
        parts.append("<h3>Truncation</h3>" + note("No document was truncated."))
    return section("Padding and truncation", *parts) if parts else ""


def dead_letters(manifest: RunManifest, examples: Mapping[str, list[DeadExample]]) -> str:
    """Builds the tables of dead letters, with examples of each reason, and of unreadable files."""
    counts = manifest.counts
    parts = []
    for reason, number in sorted(counts.dead_by_reason.items(), key=lambda item: -item[1]):
        shown = [(e.doc_id, e.message, e.text or "") for e in examples.get(reason, ())]
        parts.append(f"<h3>{safe(reason)} · {number:,}</h3>")
        parts.append(table(("document", "message", "text"), shown) if shown else "")
    if manifest.dead_files:
        rows = [(f.source, f.reason, f.message, f"{f.num_documents:,}") for f in manifest.dead_files[:20]]
        head = ("file", "reason", "message", "documents before")
        parts.append(f"<h3>Files not read to the end · {counts.num_dead_files:,}</h3>" + table(head, rows))
    return section("Dead letters", *(parts or [note("None: every document has a row.")]))


def vector_map(sample: Sample, projection: Projection, reason: str) -> str:
    """Builds the map of the sample; ``reason`` explains missing texts."""
    across, up = projection.shares
    said = (
        f"{count(len(sample.names), 'row')} spread over the run, projected on their two principal components "
        f"({across:.0%} and {up:.0%} of the variance). Points close to each other may differ in other "
        "dimensions. "
    )
    said += "Hover over a point to see its text." if sample.texts else f"No texts: {reason}"
    return section("Map of the vectors", note(said), scatter(sample, projection))


def nearest_neighbours(sample: Sample, projection: Projection) -> str:
    """Builds the lists of nearest neighbours of some rows that are far from each other."""
    rows = spread_rows(projection.points, _NEIGHBOUR_ROWS)
    near = zip(rows, neighbours_of(sample.vectors, rows, _NEIGHBOURS), strict=True)
    blocks = "".join(_near(sample, row, found) for row, found in near)
    return section(
        "Nearest neighbours",
        note("By cosine similarity, among the rows of the map."),
        f'<div class="columns">{blocks}</div>',
    )


def _near(sample: Sample, row: int, found: list[tuple[int, float]]) -> str:
    items = "".join(f"<li><b>{cosine:.3f}</b> {_named(sample, other)}</li>" for other, cosine in found)
    return f'<div><blockquote>{_named(sample, row)}</blockquote><ul class="near">{items}</ul></div>'


def _named(sample: Sample, row: int) -> str:
    text = "" if sample.texts is None else f'<bdi dir="auto">{safe(sample.texts[row])}</bdi> '
    return f"<span>{text}<small><bdi>{safe(sample.names[row])}</bdi></small></span>"


def provenance(manifest: RunManifest) -> str:
    """Builds the section on model, settings, machines and versions."""
    bundle, settings = manifest.bundle, manifest.settings
    model = [("bundle", bundle.get("name")), ("digest", bundle.get("digest")), ("place", bundle.get("place"))]
    model += [(name, _plain(value)) for name, value in settings.items() if value is not None]
    where = [("machine", machine) for machine in manifest.workers.machines]
    where += [("model load time", f"{manifest.workers.ready_seconds:.1f} s")]
    where += [("started", manifest.started_at), ("finished", manifest.finished_at)]
    if manifest.previous is not None:
        where.append(("rows reused from", manifest.previous.run_id))
    versions = list(manifest.versions.items())
    weights = [(name, f"{rows:,}") for name, rows in manifest.counts.rows_by_weights.items()]
    flags = [(name, _plain(value)) for name, value in manifest.config.items() if value not in (None, [], "")]
    flag_list = f"<details><summary>All flags</summary>{pairs(flags)}</details>" if flags else ""
    held = f"<h3>Rows by weight storage</h3>{pairs(weights)}" if weights else ""
    left = f"<div><h3>Model and settings</h3>{pairs(model)}</div>"
    right = f"<div><h3>Run</h3>{pairs(where)}<h3>Versions</h3>{pairs(versions)}{held}</div>"
    return section("Model, machines and settings", f'<div class="columns">{left}{right}</div>', flag_list)


def _plain(value: object) -> str:
    """Writes a setting as a reader would: yes and no, lists and mappings without brackets.

    >>> _plain(True), _plain(["a", 1]), _plain({"on_long": "windows", "combine": None})
    ('yes', 'a, 1', 'on_long windows')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
