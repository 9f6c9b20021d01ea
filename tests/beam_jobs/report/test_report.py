"""``report.html``: what it shows, that it obeys nothing, that it never endangers a run."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.base.records import DeadLetter
from beam_jobs.pipeline.write.timeline import WorkLog, count_lengths, sum_lengths, sum_timeline
from beam_jobs.report import page, projection, sections
from beam_jobs.report.__main__ import main
from beam_jobs.report.charts import Bar, bar_chart, colours_of
from beam_jobs.report.row_sample import _take, sample_rows
from beam_jobs.report.sections import length_bars
from beam_jobs.store.finished_run import find_run
from beam_jobs.store.manifest import PreviousEntry, Timeline
from tests.support.runs.jobs import capture, run_job, write_jsonl
from tests.support.runs.made_runs import make_run

HOSTILE = "</title></svg></script><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&\x00"


class Tags(HTMLParser):
    """What a browser would make of a page: its elements, and what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.text += data


def shards(num_rows: int, **columns: Any) -> list[dict[str, Any]]:
    """Writes one shard of points in two heaps."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(num_rows, 8)) + 6 * (np.arange(num_rows) % 2)[:, None]
    return [{"ids": [f"d{i}" for i in range(num_rows)], "vectors": vectors, "group": 50, **columns}]


def test_a_job_writes_its_report(tiny_bundle: Path, tmp_path: Path) -> None:
    texts = ["the cat sat on the mat", "a dog ran", "time and time " * 90, "", "home of the dog", "a cat"]
    source = write_jsonl(
        tmp_path / "in.jsonl", [{"text": text, "kind": "ab"[len(text) % 2]} for text in texts]
    )
    run = run_job(tmp_path, tiny_bundle, "--input", source, "--keep_text", "--keep_columns", "kind")
    assert str(run.root / "report.html") in run.stdout
    made = (run.root / "report.html").read_text(encoding="utf-8")
    read = Tags(made)
    assert read.tags["circle"] == 5
    for expected in ("6", "tiny", "blank_text · 1", "the cat sat on the mat", "kind:", run.manifest.run_id):
        assert expected in read.text
    assert run.manifest.workers.machines[0] in read.text
    assert run.manifest.versions["tensorflow"] in read.text
    assert run.manifest.timeline is not None
    assert sum(run.manifest.timeline.documents) == pytest.approx(5)
    assert sum(run.manifest.timeline.tokens) == pytest.approx(run.manifest.counts.num_tokens)
    assert sum(run.manifest.counts.documents_by_tokens.values()) == 5
    assert run.manifest.counts.documents_by_tokens[64] == 1
    assert not re.search(r"https?://|url\(|@import", made)


def test_no_report_where_none_is_wanted(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a cat"}])
    run = run_job(tmp_path, tiny_bundle, "--input", source, "--no_report")
    assert run.is_finished
    assert not (run.root / "report.html").exists()
    assert "report.html" not in run.stdout


def test_under_no_text_there_is_no_text(tiny_bundle: Path, tmp_path: Path) -> None:
    texts = ["secretword cat", "secretword dog", "secretword failword", "secretword mat", "secretword home"]
    records = [{"text": text, "title": "secretword"[: 9 + i % 2]} for i, text in enumerate(texts)]
    source = write_jsonl(tmp_path / "in.jsonl", records)
    flags = ("--no_text", "--keep_columns", "title", "--max_dead_fraction", "0.5")
    run = run_job(tmp_path, tiny_bundle, "--input", source, *flags)
    made = (run.root / "report.html").read_text(encoding="utf-8")
    assert Tags(made).tags["circle"] == 4
    assert "secretwor" not in made
    assert "made with --no_text" in made


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    made = shards(40, text=[HOSTILE] * 40, **{f"col {HOSTILE}": [HOSTILE + "ab"[i % 2] for i in range(40)]})
    dead = [DeadLetter(HOSTILE, HOSTILE, "read", "broken_json", HOSTILE, HOSTILE)]
    config = {"text_column": HOSTILE, HOSTILE: [HOSTILE]}
    bundle = {"name": HOSTILE, "digest": HOSTILE, "place": HOSTILE}
    made_run = make_run(
        tmp_path, "run", made, dead=dead, config=config, bundle=bundle, versions={HOSTILE: HOSTILE}
    )
    text = page.make_page(find_run(str(made_run)))
    read = Tags(text)
    assert (read.tags["script"], read.tags["img"], read.tags["title"]) == (
        1,
        0,
        1 + read.tags["circle"] + read.tags["rect"],
    )
    assert not {name for name in read.attributes if name.startswith("on")}
    assert "\x00" not in text
    assert HOSTILE.replace("\x00", " ") in read.text


@given(st.text())
def test_any_text_is_escaped(text: str) -> None:
    shown = bar_chart([Bar(text, 1.0, text)], title=text, below=text)
    assert Tags(shown).tags == Counter({"svg": 1, "rect": 1, "line": 5, "title": 1, "text": 7})


def test_a_run_never_fails_for_its_report(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError("no room")

    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a cat"}])
    monkeypatch.setattr(page, "sample_rows", fail)
    run = run_job(tmp_path, tiny_bundle, "--input", source)
    assert run.exit_code == 0
    assert run.is_finished
    assert "No report.html for run run: no room" in run.stderr
    assert not (run.root / "report.html").exists()
    monkeypatch.undo()
    with capture() as (stdout, _):
        assert main([str(tmp_path)]) == 0
    assert stdout.getvalue().strip() == str(run.root / "report.html")
    assert "1 row" in Tags((run.root / "report.html").read_text()).text


def test_failed_and_empty_runs_have_reports(tmp_path: Path) -> None:
    make_run(tmp_path, "failed", shards(10), failure="2 of 12 documents are <dead>")
    make_run(tmp_path, "empty", [])
    for name, expected in (("failed", "2 of 12 documents are <dead>"), ("empty", "documents read")):
        target = tmp_path / f"{name}.html"
        with capture():
            assert main([str(tmp_path / name), "--output", str(target)]) == 0
        assert expected in Tags(target.read_text(encoding="utf-8")).text
    with capture() as (_, stderr):
        assert main([str(tmp_path / "nothing")]) == 2
    assert "neither a run" in stderr.getvalue()
    (file,) = (tmp_path / "failed" / "embeddings").iterdir()
    file.write_bytes(b"no Parquet")
    with capture() as (_, stderr):
        assert main([str(tmp_path / "failed")]) == 1
    assert "cannot be read" in stderr.getvalue()


def test_the_sample_is_spread_bounded_and_always_the_same(tmp_path: Path) -> None:
    run = find_run(str(make_run(tmp_path, "run", [*shards(3000), *shards(3000)])))
    sample = sample_rows(run, with_text=True, num_rows=200)
    assert sample is not None
    assert 150 <= len(sample.names) <= 200
    places = [int(name[1:]) for name in sample.names]
    assert max(np.histogram(places, bins=6, range=(0, 3000))[0]) < 60
    again = sample_rows(run, with_text=True, num_rows=200)
    assert again is not None
    np.testing.assert_array_equal(sample.vectors, again.vectors)
    few = sample_rows(find_run(str(make_run(tmp_path, "few", shards(60)))), with_text=True)
    assert few is not None
    assert sorted(few.names) == sorted(f"d{i}" for i in range(60))


def test_a_plane_in_space_is_found_again() -> None:
    random = np.random.default_rng(3)
    flat = random.normal(size=(300, 2)) * [5, 2]
    axes, _ = np.linalg.qr(random.normal(size=(20, 2)))
    found = projection.project(flat @ axes.T + 7)
    assert sum(found.shares) == pytest.approx(1)
    assert found.shares[0] > found.shares[1]
    distances = np.linalg.norm(flat[:, None] - flat, axis=2)
    np.testing.assert_allclose(
        np.linalg.norm(found.points[:, None] - found.points, axis=2), distances, atol=1e-6
    )
    assert projection.project(np.ones((4, 1))).points.shape == (4, 2)


def test_neighbours_by_cosine() -> None:
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0]])
    ((first, second, third),) = projection.neighbours_of(vectors, [0], 3)
    assert [first[0], second[0], third[0]] == [1, 2, 3]
    assert [first[1], second[1], third[1]] == pytest.approx([0.99875, 0.0, -1.0], abs=1e-5)
    assert projection.spread_rows(np.array([[0, 0], [1, 0], [50, 0], [0, 60]]), 3)[1:] == [3, 2]


def test_lengths_are_counted_once_a_document() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"doc_id": ["a", "a", "b", "c", "c"], "num_tokens": pa.array([8, 8, 9, 5000, 5000], pa.int32())}
    )
    assert count_lengths(batch) == {"length/8": 1, "length/16": 1, "length/8192": 1}
    assert sum_lengths(Counter({"length/16": 2, "length/8": 1, "num_tokens": 9})) == {8: 1, 16: 2}
    assert count_lengths(pa.RecordBatch.from_pydict({"reason": ["x"]})) == {}
    assert length_bars({}) == []


@given(st.dictionaries(st.integers(1, 40_000), st.integers(1, 100), min_size=1, max_size=20))
def test_bars_of_lengths_lose_no_document(lengths: dict[int, int]) -> None:
    ids = [f"{length}-{i}" for length, count in lengths.items() for i in range(count)]
    tokens = [length for length, count in lengths.items() for _ in range(count)]
    batch = pa.RecordBatch.from_pydict({"doc_id": ids, "num_tokens": pa.array(tokens, pa.int32())})
    bars = length_bars(sum_lengths(Counter(count_lengths(batch))))
    assert sum(bar.value for bar in bars) == len(ids)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), st.integers(0, 10**11), st.integers(1, 99), st.integers(0, 999)),
        min_size=1,
        max_size=30,
    )
)
def test_the_timeline_holds_all_work(spans: list[tuple[int, int, int, int]]) -> None:
    timeline = sum_timeline([(begin, begin + length, docs, tokens) for begin, length, docs, tokens in spans])
    assert timeline is not None
    assert sum(timeline.documents) == pytest.approx(sum(span[2] for span in spans), abs=1)
    assert sum(timeline.tokens) == pytest.approx(sum(span[3] for span in spans), abs=1)
    assert len(timeline.documents) <= 121
    assert min(timeline.documents) >= 0


def test_work_stands_where_it_was_done() -> None:
    second = 1_000_000_000
    timeline = sum_timeline([(0, 10 * second, 100, 1000), (30 * second, 40 * second, 50, 0)])
    assert timeline is not None
    assert (timeline.bucket_seconds, timeline.seconds) == (0.5, 40)
    assert timeline.documents[:3] == (5, 5, 5)
    assert sum(timeline.documents[20:60]) == 0
    assert timeline.documents[-1] == 2.5
    assert sum_timeline([]) is None


def test_a_worker_keeps_few_points_of_much_work() -> None:
    course = WorkLog()
    for _ in range(5000):
        course.add(2, 30, 5)
    assert len(course.intervals) <= 128
    assert sum(span[2] for span in course.intervals) == 10_000
    assert sum(span[3] for span in course.intervals) == 150_000


def test_rows_of_a_group_are_those_at_their_positions(tmp_path: Path) -> None:
    """Also where the group is decoded piece by piece."""
    numbers = np.random.default_rng(1).standard_normal(5000 * 8).astype(np.float32)
    table = pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(numbers), 8)})
    pq.write_table(table, tmp_path / "x.parquet")
    rows = np.array([0, 7, 1023, 1024, 3000, 4999])
    with pq.ParquetFile(tmp_path / "x.parquet") as parquet:
        parts = list(_take(parquet, 0, ["embedding"], rows))
    assert len(parts) == 4
    assert pa.concat_tables(parts).to_pylist() == table.take(list(rows)).to_pylist()


@given(groups=st.sets(st.text(max_size=4), min_size=1, max_size=8), weights=st.randoms(use_true_random=False))
def test_colours_depend_on_names_and_not_on_counts(groups: set[str], weights: Any) -> None:
    order = list(groups)
    weights.shuffle(order)
    colours = colours_of(order)
    assert colours == colours_of(groups)
    assert len(set(colours.values())) == len(groups)
    assert set(colours.values()) <= set(range(8))


def test_changes_are_no_rows_and_short_times_differ(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", shards(10))
    manifest = find_run(str(run)).manifest
    file = manifest.files[0].model_copy(
        update={"kind": "changes", "num_rows": 77, "path": "changes/c.parquet"}
    )
    counts = manifest.counts.model_copy(update={"changes": {"added": 4, "removed": 3}, "num_unchanged": 5})
    previous = PreviousEntry(run_id="night-1", root=str(tmp_path))
    manifest = manifest.model_copy(
        update={"files": (*manifest.files, file), "counts": counts, "previous": previous}
    )
    assert "10 rows" in sections.tiles(manifest)
    assert "87" not in sections.tiles(manifest)
    table = Tags(sections.changes(manifest)).text
    assert table == "Changes since night-1changedocumentsadded4removed3unchanged, rows in the previous run5"
    windows = {"window_changes": {"added": 2, "moved": 9}, "num_reused_windows": 50}
    manifest = manifest.model_copy(update={"counts": counts.model_copy(update=windows)})
    table += "changewindows of changed documentsadded2moved9copied from the previous run50"
    assert Tags(sections.changes(manifest)).text == table
    times = Timeline(
        started_at="2026-11-20T09:00:00+00:00",
        bucket_seconds=0.5,
        seconds=2.0,
        documents=(1, 2, 3, 4),
        tokens=(1, 2, 3, 4),
    )
    drawn = sections.throughput(manifest.model_copy(update={"timeline": times}))
    assert re.findall(r">([\d.]+ s)</text>", drawn) == ["0 s", "0.5 s", "1 s", "1.5 s"]
