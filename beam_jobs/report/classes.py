"""The sections of a classifier's report: labels, confidence, examples, and the true labels beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beam_jobs.base.units import count
from beam_jobs.report.charts import Bar, bar_chart
from beam_jobs.report.markup import note, section, table, tile
from beam_jobs.report.row_sample import ClassExample
from beam_jobs.store.manifest import GoldCounts, RunManifest

# Rows of a table of labels; a bundle may have thousands.
_MAX_LABELS = 30
# Columns of the table of pairs of labels that a page has room for.
_MAX_CONFUSED = 12
_EXAMPLES = 6
_STEP = 5


def labels(manifest: RunManifest) -> str:
    """Builds the table of labels with their rows and shares."""
    counts = manifest.counts
    num_rows = sum(counts.rows_by_label.values()) + counts.num_without_label
    if not num_rows:
        return ""
    named = list(manifest.bundle.get("labels") or ())
    rows = [*counts.rows_by_label.items(), *((name, 0) for name in named if name not in counts.rows_by_label)]
    rows += [("(no label reaches the threshold)", counts.num_without_label)] * bool(counts.num_without_label)
    shown = [(name, f"{number:,}", _percent(number, num_rows)) for name, number in rows[:_MAX_LABELS]]
    rest = len(rows) - _MAX_LABELS
    more = note(f"And {count(rest, 'label')} with fewer rows.") if rest > 0 else ""
    return section("Labels", table(("label", "rows", "share"), shown, numbers=(1, 2)), more)


def confidence(manifest: RunManifest) -> str:
    """Builds the histogram of the best score of each row."""
    counts = manifest.counts.rows_by_score
    if not counts:
        return ""
    bars = []
    for low in range(0, 100, _STEP):
        number = counts.get(low, 0)
        bars.append(Bar(f"{low / 100:g}", number, f"{low} to {low + _STEP} %: {count(number, 'row')}"))
    chart = bar_chart(
        bars,
        title="Rows by the score of their best label",
        below="score of the best label (lower bound of each class)",
        label_every=2,
    )
    return section("Confidence", chart)


def examples(sample: Sequence[ClassExample], reason: str) -> str:
    """Builds tables of the most and the least certain rows of a sample; ``reason`` explains missing texts."""
    if not sample:
        return ""
    ranked = sorted(sample, key=lambda row: -row.score)
    head = ["label", "score", *(["true label"] if any(row.true_label for row in sample) else []), "row"]
    has_texts = any(row.text is not None for row in sample)
    head += ["text"] if has_texts else []

    def cells(row: ClassExample) -> tuple[str, ...]:
        true = (row.true_label or "",) if "true label" in head else ()
        return (row.label, f"{row.score:.3f}", *true, row.name, *((row.text or "",) if has_texts else ()))

    said = f"Of {count(len(sample), 'row')} spread over the run." + (
        "" if has_texts else f" No texts: {reason}"
    )
    parts = [
        note(said),
        "<h3>Most certain</h3>",
        table(head, map(cells, ranked[:_EXAMPLES]), numbers=(1,)),
        "<h3>Least certain</h3>",
        table(head, map(cells, ranked[: -_EXAMPLES - 1 : -1]), numbers=(1,)),
    ]
    if "true label" in head:
        wrong = [row for row in ranked if row.true_label and row.true_label != row.label]
        parts += ["<h3>Most certain with another true label</h3>"] * bool(wrong)
        parts += [table(head, map(cells, wrong[:_EXAMPLES]), numbers=(1,))] * bool(wrong)
    return section("Examples", *parts)


def gold(manifest: RunManifest) -> str:
    """Builds the comparison with the true labels."""
    found = manifest.counts.gold
    if found is None:
        return ""
    right = sum(found.right_by_label.values())
    tiles = [
        tile("accuracy", f"{100 * found.accuracy:.2f} %", f"{right:,} of {count(found.num_rows, 'row')}"),
        tile("macro F1", f"{_macro_f1(found):.4f}", "mean over the true labels"),
    ]
    if found.num_missing:
        tiles.append(tile("without true label", f"{found.num_missing:,}", "not counted"))
    if found.num_unknown:
        tiles.append(
            tile("unknown label", f"{found.num_unknown:,}", "the bundle has no such label; not counted")
        )
    names = [*found.rows_by_label, *(n for n in found.predicted_by_label if n not in found.rows_by_label)]
    rows = [
        (
            name,
            f"{found.rows_by_label.get(name, 0):,}",
            f"{found.predicted_by_label.get(name, 0):,}",
            _ratio(found.right_by_label, found.predicted_by_label, name),
            _ratio(found.right_by_label, found.rows_by_label, name),
        )
        for name in names[:_MAX_LABELS]
    ]
    head = ("label", "true", "assigned", "precision", "recall")
    parts = [f'<div class="tiles">{"".join(tiles)}</div>', "<h3>Labels</h3>"]
    parts.append(table(head, rows, numbers=(1, 2, 3, 4)))
    parts += [_confusion(found, names), _calibration(found)]
    return section(f"Beside the true labels in {found.column}", *parts)


def _confusion(found: GoldCounts, names: Sequence[str]) -> str:
    if not found.confusion or len(names) > _MAX_CONFUSED:
        return ""
    rows = [
        (true, *(f"{found.confusion.get(true, {}).get(label, 0):,}" for label in names))
        for true in found.rows_by_label
    ]
    drawn = table(("true label", *names), rows, numbers=range(1, len(names) + 1))
    return "<h3>True label by label</h3>" + drawn


def _calibration(found: GoldCounts) -> str:
    if not found.rows_by_score:
        return ""
    bars = []
    for low in range(0, 100, _STEP):
        rows, right = found.rows_by_score.get(low, 0), found.right_by_score.get(low, 0)
        hint = f"score {low} to {low + _STEP} %: {right:,} of {count(rows, 'row')} right"
        bars.append(Bar(f"{low / 100:g}", right / rows if rows else 0.0, hint))
    chart = bar_chart(
        bars,
        title="Share of right labels by the score of the label",
        below="score of the label (lower bound of each class)",
        label_every=2,
    )
    told = note(
        "Share of right labels among the rows of each score. Of a calibrated classifier it equals the score."
    )
    return f"<h3>Calibration</h3>{told}{chart}"


def _macro_f1(found: GoldCounts) -> float:
    """Returns the mean over the true labels of 2 * right / (true + predicted)."""
    values = [
        2 * found.right_by_label.get(name, 0) / (rows + found.predicted_by_label.get(name, 0))
        for name, rows in found.rows_by_label.items()
    ]
    return sum(values) / len(values) if values else 0.0


def _ratio(part: Mapping[str, int], whole: Mapping[str, int], name: str) -> str:
    return f"{part.get(name, 0) / whole[name]:.4f}" if whole.get(name) else "none"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
