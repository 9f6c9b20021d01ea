from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import families, tables
from benchmarks.corpus import Corpus, read_corpus
from benchmarks.errors import BenchmarkError
from benchmarks.fidelity import Fidelity, compare, read_vectors
from benchmarks.flops import EncoderShape, product_flops, text_flops, token_flops
from benchmarks.peers import panels, render
from benchmarks.plots import check_can_plot, plot_speeds
from benchmarks.processes import run_timed
from benchmarks.registry import JOB_NAMES, LOOP_NAMES, check_names
from benchmarks.results import new_results, replace_section, write_results
from benchmarks.spread import Spread, ratios
from benchmarks.summary import job_overheads, job_rows, loop_rows, ratio_rows
from benchmarks.systems.loops import choose, sample
from benchmarks.systems.stopwatch import Stopwatch
from benchmarks.worker import System, Worker, environment, run_rounds, started

MINILM = EncoderShape(num_layers=6, dim=384, inner_dim=1536)


def test_ratio_of_a_round_ignores_what_slows_the_whole_machine() -> None:
    assert ratios([20.0, 40.0, 60.0], [10.0, 20.0, 30.0]) == Spread(2.0, 2.0, 2.0)
    assert ratios([2.0, 3.0, 10.0], [1.0, 1.0, 1.0]) == Spread(3.0, 2.0, 10.0)


@given(st.lists(st.tuples(*[st.floats(0.01, 100)] * 3), min_size=1, max_size=9))
def test_slowing_rounds_changes_no_ratio(rounds: list[tuple[float, float, float]]) -> None:
    plain = ratios([a for a, _, _ in rounds], [b for _, b, _ in rounds])
    slowed = ratios([a * k for a, _, k in rounds], [b * k for _, b, k in rounds])
    assert (slowed.median, slowed.lowest, slowed.highest) == pytest.approx(
        (plain.median, plain.lowest, plain.highest)
    )


def test_rounds_of_different_number_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_flops_of_a_text_are_those_of_its_products() -> None:
    tokens, dim, inner, heads = 7, 384, 1536, 12
    size = dim // heads
    layer = [(tokens, dim, dim)] * 4 + [(tokens, dim, inner), (tokens, inner, dim)]
    layer += [(tokens, size, tokens)] * heads + [(tokens, tokens, size)] * heads
    expected = 6 * sum(product_flops(product) for product in layer)
    assert text_flops(MINILM, np.array([tokens], np.int32)) == expected


def test_flops_add_up_over_texts_and_do_not_overflow() -> None:
    assert token_flops(MINILM) == 21_233_664
    lengths = np.full(1_000_000, 256, dtype=np.int32)
    assert text_flops(MINILM, lengths) == 1_000_000 * text_flops(MINILM, lengths[:1])


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (0.123, "0.12"), (1.5, "1.50"), (12.34, "12.3"), (1234.5, "1,234"), (-45.6, "-45.6")],
)
def test_figures_keep_three_digits(value: float, written: str) -> None:
    assert tables.number(value) == written


def test_a_row_of_another_length_is_no_table() -> None:
    assert tables.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match="2 cells"):
        tables.markdown(["a", "b"], [["1"]])


def _answer(seconds: float, *, model: float | None = None) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "tokenize_seconds": 0.1 * seconds,
        "model_seconds": 0.8 * seconds if model is None else model,
        "num_tokens": 900,
        "num_padded_tokens": 1000,
        "peak_memory_bytes": 500_000_000,
        "others_share": 0.01,
    }


def _loops() -> dict[str, Any]:
    peak = {"float32/model": 1e9, "float32/large": 2e9, "bfloat16/model": 4e9, "bfloat16/large": 8e9}
    ready = {"details": {"setting": "batch 32"}, "versions": {"torch": "2.15.0"}}
    names = {"ours_float32": "ours", "sentence_transformers_float32": "peer"}
    return {
        "systems": {name: {"label": label, "ready": ready} for name, label in names.items()},
        "rounds": {
            "ours_float32": [_answer(1.0), _answer(2.0), _answer(1.0)],
            "sentence_transformers_float32": [_answer(3.0), _answer(6.0), _answer(3.3)],
            "matrix_peak": [{"flops_per_second": peak, "others_share": 0.0}] * 3,
        },
        "fidelity": {
            "ours_float32": {"min_cosine": 0.9999987, "mean_cosine": 0.9999993, "max_difference": 2.5e-6}
        },
        "quality": {"ours_float32": {"sts": 0.8672, "ag_news": 0.8742}},
        "num_documents": 100,
        "num_tokens": 900,
        "flops": 400_000_000,
    }


def test_loop_figures_come_from_medians_and_useful_work() -> None:
    ours, peer = loop_rows(_loops()["rounds"], num_documents=100, flops=400_000_000)
    assert ours.documents_per_second == Spread(100.0, 50.0, 100.0)
    assert ours.padding == pytest.approx(0.1)
    assert ours.share_of_model_peak == pytest.approx(0.5)
    assert ours.share_of_large_peak == pytest.approx(0.25)
    assert peer.tokens_per_second == pytest.approx(900 / 3.3)
    assert ours.tokenize_share == pytest.approx(0.1)


def test_a_peer_is_compared_round_by_round() -> None:
    rows = {row.name: row for row in ratio_rows(_loops()["rounds"])}
    spread = rows["sentence_transformers_float32"].whole["ours_float32"]
    assert (spread.median, spread.lowest, spread.highest) == pytest.approx((3.0, 3.0, 3.3))
    assert rows["ours_float32"].cpu["ours_float32"] == Spread(1.0, 1.0, 1.0)


def _jobs() -> dict[str, Any]:
    def job(seconds: float) -> dict[str, Any]:
        return {
            "seconds": seconds,
            "commit_seconds": seconds - 0.1,
            "startup_seconds": 5.0,
            "peak_memory_bytes": 1_000_000_000,
            "others_share": 0.0,
        }

    return {
        "labels": {"job_float32": "our job", "beam_mltransform": "MLTransform"},
        "rounds": {
            "loop_float32": [_answer(1.0), _answer(1.0)],
            "job_float32": [job(10.5), job(10.7)],
            "beam_mltransform": [job(105.0), job(64.2)],
        },
        "fidelity": {"job_float32": {"min_cosine": 1.0, "mean_cosine": 1.0, "max_difference": 1e-6}},
        "num_documents": 1000,
        "num_loop_documents": 100,
    }


def test_a_job_is_held_against_the_loop_per_document() -> None:
    jobs = _jobs()
    overhead = job_overheads(jobs["rounds"], 1000, 100)["float32"]
    assert (overhead.median, overhead.lowest, overhead.highest) == pytest.approx((0.06, 0.05, 0.07))
    committed = job_overheads(jobs["rounds"], 1000, 100, key="commit_seconds")["float32"]
    assert committed.median == pytest.approx(0.05)
    ours, peer = job_rows(jobs["rounds"], 1000)
    assert ours.startup_seconds == 5.0
    assert peer.ratios["job_float32"].highest == pytest.approx(10.0)
    assert peer.ratios["job_float32"].lowest == pytest.approx(6.0)


def test_the_whole_page_is_rendered() -> None:
    results = new_results(loops=_loops(), jobs=_jobs(), systems=_loops()["systems"])
    page = render(results)
    assert "| ours | 100 (50.0-100) | 50.0 (25.0-50.0) | 900 |" in page
    assert "| 0.999999 | 0.999999 | 2.5e-06 |" in page
    assert "| peer | 3.00 (3.00-3.30) | 3.00 (3.00-3.30) |" in page
    assert "torch 2.15.0" in page
    assert "| ours | 0.8672 | 0.8742 |" in page
    assert "end of the command: float32 6.0 % (5.0 % to 7.0 %)" in page
    bars = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in bars if "MLTransform" in line or "our job" in line}) == 1


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra 'bench'")
    plot_speeds(panels({"loops": _loops(), "jobs": _jobs()}), tmp_path / "speeds.png")
    assert (tmp_path / "speeds.png").read_bytes().startswith(b"\x89PNG")


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = "before\n<!-- begin a -->\nold\n<!-- end a -->\nafter <!-- begin b --><!-- end b -->\n"
    new = replace_section(page, "a", "new")
    assert new == page.replace("old", "new")
    assert replace_section(new, "a", "new") == new
    for broken in ("no markers", "<!-- end a --> <!-- begin a -->", page + page):
        with pytest.raises(BenchmarkError, match="<!-- begin a -->"):
            replace_section(broken, "a", "new")


def test_families_are_compared_with_bert_in_the_same_precision_by_processor_time() -> None:
    rounds = {
        name: [{"cpu_seconds": seconds, "num_tokens": 100, "peak_memory_bytes": 5_000_000}] * 3
        for name, seconds in {
            "mpnet/bert/ours_float32": 2.0,
            "mpnet/bert/ours_bfloat16": 1.0,
            "mpnet/mpnet/ours_bfloat16": 1.25,
            "mpnet/mpnet/onnxruntime_float32": 4.0,
        }.items()
    }
    systems = {name: {"label": name, "ready": {"versions": {"x": "1"}}} for name in rounds}
    page = families.render(
        new_results(corpus={"num_documents": 16}, systems=systems, rounds=rounds)
    ).splitlines()
    cells = {
        row.split(" | ")[0].strip("| "): row.split(" | ")[2] for row in page if "ours" in row or "onnx" in row
    }
    assert cells["mpnet/mpnet/ours_bfloat16"].startswith("0.80")
    assert cells["mpnet/mpnet/onnxruntime_float32"].startswith("0.50")


def test_the_readme_has_every_section() -> None:
    readme = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for name in ("peers", "startup", "bert_base", "families", "scale"):
        assert replace_section(readme, name, "x") != readme


def test_results_are_dated_by_their_start(tmp_path: Path) -> None:
    results = new_results(figure=1.5)
    path = write_results(results, "peers", tmp_path)
    assert path.name == f"{results['started_at'][:10]}-peers.json"
    assert json.loads(path.read_text())["figure"] == 1.5


def test_fidelity_is_that_of_the_worst_text() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert compare(reference, reference) == Fidelity(1.0, 1.0, 0.0)
    turned = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    found = compare(turned, reference)
    assert (found.min_cosine, found.mean_cosine, found.max_difference) == pytest.approx((0.8, 0.9, 0.6))
    with pytest.raises(BenchmarkError, match="NaN"):
        compare(np.full_like(reference, np.nan), reference)
    with pytest.raises(BenchmarkError, match="reference's"):
        compare(reference[:1], reference)


def _write_rows(folder: Path, name: str, texts: list[str], vectors: list[list[float]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, "embedding": vectors}), folder / name)


def test_rows_are_read_back_in_the_order_of_the_input(tmp_path: Path) -> None:
    _write_rows(tmp_path / "run/embeddings", "b.parquet", ["x", "y"], [[1.0, 2.0], [3.0, 4.0]])
    _write_rows(tmp_path / "run/embeddings", "a.parquet", ["y", "z"], [[3.0, 4.0], [5.0, 6.0]])
    _write_rows(tmp_path / "run/dead_letters", "d.parquet", ["dead"], [[0.0, 0.0]])
    vectors = read_vectors(tmp_path, ["z", "y", "x", "y"])
    assert vectors.tolist() == [[5, 6], [3, 4], [1, 2], [3, 4]]
    assert vectors.dtype == np.float32
    with pytest.raises(BenchmarkError, match="4 rows for 3"):
        read_vectors(tmp_path, ["z", "y", "x"])
    with pytest.raises(BenchmarkError, match="lacks a row"):
        read_vectors(tmp_path, ["z", "x", "x", "y"])


def test_every_document_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text('"1","A title","two\nlines, quoted"\n"2","","\n"\n"3","b","c"\n')
    corpus = read_corpus(path)
    assert corpus.texts == ["A title two lines, quoted", "b c"]
    assert corpus.repeated(5).texts == [*corpus.texts, *corpus.texts, corpus.texts[0]]
    assert corpus.repeated(1).write_lines(tmp_path / "lines.txt").read_text() == f"{corpus.texts[0]}\n"
    with pytest.raises(BenchmarkError, match="--corpus"):
        read_corpus(tmp_path / "none.csv")


def test_without_a_corpus_the_sample_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARED_DIR", str(tmp_path))
    assert len(read_corpus(None).texts) >= 200


def test_names_and_environment_are_checked_before_work(tmp_path: Path) -> None:
    check_names(["ours_float32", "job_bfloat16"], tmp_path / "none")
    with pytest.raises(BenchmarkError, match="requirements-peers"):
        check_names([*LOOP_NAMES, *JOB_NAMES], tmp_path / "none")
    with pytest.raises(BenchmarkError, match="ours_float16"):
        check_names(["ours_float16"], Path(sys.executable))


def test_what_cannot_be_held_to_older_instructions_is_refused(tmp_path: Path) -> None:
    for name, said in (
        ("onnxruntime_float32", "ONNX Runtime takes no notice"),
        ("job_float32", "jobs are measured as they are"),
        ("ours_int8", "Name ours_int7 instead"),
    ):
        with pytest.raises(BenchmarkError, match=said):
            check_names([name], tmp_path, "AVX2")
    check_names(["ours_float32", "ours_int7"], tmp_path, "AVX2")
    held = environment("AVX2")
    names = ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA", "ATEN_CPU_CAPABILITY")
    assert [held[name] for name in names] == ["AVX2", "AVX2", "avx2"]


def test_a_stopwatch_counts_calls_on_objects_and_classes() -> None:
    now = 0.0

    class Worker:
        def work(self, seconds: float) -> float:
            nonlocal now
            now += seconds
            return seconds

    seen: list[float] = []
    worker = Worker()
    on_class = Stopwatch(Worker, "work", clock=lambda: now)
    on_object = Stopwatch(worker, "work", seen.append, lambda: now)
    assert worker.work(2.0) == 2.0
    assert Worker().work(1.0) == 1.0
    assert seen == [2.0]
    assert (on_object.seconds, on_class.seconds) == (2.0, 3.0)
    assert on_object.reset() == 2.0
    assert on_object.seconds == 0


def test_the_fastest_setting_is_chosen() -> None:
    now = 0.0

    def take(seconds: float) -> None:
        nonlocal now
        now += seconds

    choice = choose({"slow": lambda: take(2.0), "fast": lambda: take(1.0)}, lambda: now)
    assert (choice.best, choice.seconds) == ("fast", {"slow": 2.0, "fast": 1.0})


def test_a_sample_is_spread_over_all_texts() -> None:
    texts = [str(index) for index in range(10)]
    assert sample(texts, 3) == ["0", "3", "6"]
    assert sample(texts, 20) == texts


def test_a_corpus_tells_what_it_is() -> None:
    assert Corpus("c", ["ab", "c"]).describe()["num_characters"] == 3


# A system that writes down when it worked, prints where answers go, and works or sleeps as it is told.
_FAKE = """
import json, sys, time
from pathlib import Path
from benchmarks.systems.protocol import claim_stdout, peak_memory_bytes, serve

name, log, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
answers = claim_stdout()
print("noise that is no answer")

def encode(request):
    started = time.monotonic()
    if seconds < 0:
        raise RuntimeError("this system is broken")
    while time.monotonic() < started + seconds:
        sum(range(1000))
    with log.open("a") as stream:
        stream.write(json.dumps([name, started, time.monotonic(), time.process_time()]) + "\\n")
    return {"seconds": seconds, "cpu_seconds": seconds, "peak_memory_bytes": peak_memory_bytes()}

serve(answers, {"details": {"setting": "fake"}}, {"encode": encode})
"""


def _fake(tmp_path: Path, name: str, seconds: float) -> System:
    script = tmp_path / "fake.py"
    script.write_text(_FAKE)
    arguments = (name, str(tmp_path / "worked.jsonl"), str(seconds))
    return System(name, f"fake {name}", (sys.executable, str(script), *arguments))


def test_systems_take_turns_and_sleep_meanwhile(tmp_path: Path) -> None:
    systems = [_fake(tmp_path, "a", 0.3), _fake(tmp_path, "b", 0.05)]
    with started(systems, tmp_path) as workers:
        measured = run_rounds(workers, 3, pause_seconds=0)
    lines = [json.loads(line) for line in (tmp_path / "worked.jsonl").read_text().splitlines()]
    assert [line[0] for line in lines] == ["a", "b"] * 3
    for (_, _, ended, _), (_, began, _, _) in pairwise(lines):
        assert ended <= began
    cpu_of_b = [cpu for name, _, _, cpu in lines if name == "b"]
    assert cpu_of_b[2] - cpu_of_b[0] < 0.2, "b used the processor while a worked for 0.6 s"
    assert {name: len(rounds) for name, rounds in measured.items()} == {"a": 3, "b": 3}
    assert all(0 < answer["peak_memory_bytes"] < 10**9 for answer in measured["a"])


def test_a_broken_system_is_named_and_leaves_no_process(tmp_path: Path) -> None:
    systems = [_fake(tmp_path, "fine", 0.0), _fake(tmp_path, "broken", -1.0)]
    pids: list[int] = []

    def measure() -> None:
        with started(systems, tmp_path) as workers:
            pids.extend(worker._process.pid for worker in workers.values())
            run_rounds(workers, 1, pause_seconds=0)

    with pytest.raises(
        BenchmarkError, match=r"(?s)fake broken.*this system is broken.*noise that is no answer"
    ):
        measure()
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_system_that_does_not_start_says_why(tmp_path: Path) -> None:
    system = System("gone", "gone", (sys.executable, "-c", "raise SystemExit('no such library')"))
    with pytest.raises(BenchmarkError, match=r"(?s)the process ended.*no such library"):
        Worker(system, tmp_path / "log")


def test_a_command_is_measured_from_outside(tmp_path: Path) -> None:
    code = "import time; x = b'1' * 200_000_000; time.sleep(0.5); print('done')"
    timed = run_timed([sys.executable, "-c", code], tmp_path / "log")
    assert timed.output == "done\n"
    assert 200e6 < timed.peak_memory_bytes < 400e6
    assert timed.cpu_seconds > 0
    code = "import sys; print('what went wrong', file=sys.stderr); sys.exit(3)"
    with pytest.raises(BenchmarkError, match=r"(?s)ended with 3.*what went wrong"):
        run_timed([sys.executable, "-c", code], tmp_path / "log")


def test_a_plot_that_cannot_be_drawn_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.plots.find_spec", lambda _: None)
    with pytest.raises(BenchmarkError, match=r"pip install matplotlib\. Nothing was measured"):
        check_can_plot()
