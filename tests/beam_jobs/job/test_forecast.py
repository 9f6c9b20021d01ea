"""``--forecast``: what it counts, multiplies and prints, and that it is near what a run then takes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.base.config import ReadOptions
from beam_jobs.embed import main
from beam_jobs.errors import UsageError
from beam_jobs.job.console.log_capture import open_console
from beam_jobs.job.dataflow.prices import default_machines, describe_default, find_machine, read_prices
from beam_jobs.job.flags.beam import pipeline_options
from beam_jobs.job.flags.parsers import embed_parser
from beam_jobs.job.forecast import sample as sample_module
from beam_jobs.job.forecast.command import check_cost
from beam_jobs.job.forecast.count import LengthCounts
from beam_jobs.job.forecast.estimate import (
    Forecast,
    ForecastHere,
    compare_families,
    cost_of,
    cost_of_precision,
    scale_counts,
    time_here,
)
from beam_jobs.job.forecast.measure import Measurement
from beam_jobs.job.forecast.sample import sample_input
from beam_jobs.pipeline.read.inspect import inspect_input
from tests.conftest import shared_path
from tests.support.runs.jobs import PROJECT, capture, run_job, write_jsonl

TABLE = read_prices(None)


def forecast(output: Path, *flags: Any) -> tuple[int, Forecast | None, str, str]:
    """Runs the command: exit code, what was saved, what was printed, errors."""
    with capture() as (stdout, stderr):
        code = main(["--output", str(output), *map(str, flags)])
    path = output / "forecast.json"
    saved = Forecast.model_validate_json(path.read_bytes()) if path.exists() else None
    return code, saved, stdout.getvalue(), stderr.getvalue()


def records(number: int) -> list[dict[str, Any]]:
    source = random.Random(5)
    words = ("the", "cat", "sat", "on", "a", "mat", "dog", "ran", "home")
    texts = [" ".join(source.choices(words, k=source.randint(1, 90))) for _ in range(number)]
    return [{"id": str(index), "text": text} for index, text in enumerate(texts)]


@pytest.mark.parametrize("mode", ["sample", "full"])
def test_counts_are_those_of_the_run(tiny_bundle: Path, tmp_path: Path, mode: str) -> None:
    unknown = {"id": "thai", "text": "ข้าว cat ข้าว ข้าว"}
    made = [*records(399), unknown, {"id": "blank", "text": "  "}, {"id": "none"}]
    source = write_jsonl(tmp_path / "in.jsonl", made)
    flags = ("--bundle", tiny_bundle, "--input", source, "--id_column", "id", "--keep_text")
    code, saved, stdout, stderr = forecast(tmp_path / "out", *flags, "--forecast", mode)
    assert code == 0, stderr
    assert saved is not None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["forecast.json"]
    run = run_job(tmp_path / "out", tiny_bundle, *flags[2:], "--max_dead_fraction", "0.1")
    counts = run.manifest.counts
    assert saved.counts.is_exact
    assert (saved.counts.num_documents, saved.counts.num_dead) == (counts.num_read, counts.num_dead)
    assert saved.counts.num_tokens == counts.num_tokens
    assert sum(saved.counts.documents_by_tokens.values()) == 400
    assert saved.counts.long_fraction == pytest.approx(counts.num_truncated / 400)
    lost = counts.num_lost_tokens / (counts.num_tokens + counts.num_lost_tokens)
    assert saved.counts.lost_token_fraction == pytest.approx(lost)
    assert saved.counts.unknown_token_fraction == pytest.approx(3 / counts.num_tokens)
    assert counts.num_unknown_tokens == 3
    assert saved.counts.mostly_unknown_fraction == 1 / 400
    assert "% of tokens; mostly unknown: 0.25 % of documents" in stdout
    assert saved.counts.num_padded_tokens == pytest.approx(counts.num_padded_tokens, rel=0.1)
    written = sum(file.num_bytes for file in run.manifest.files if file.kind == "embeddings")
    assert saved.output.num_bytes == pytest.approx(written, rel=0.25)
    assert saved.output.num_rows == 400
    assert "402 (counted), 2 of them dead letters" in stdout
    assert str(tmp_path / "out" / "forecast.json") in stdout


def test_words_and_windows_are_rows_of_their_own(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", records(60))
    for rows in ("word", "window"):
        flags = ("--input", source, "--rows", rows, "--max_tokens", "32")
        _, saved, _, stderr = forecast(tmp_path / rows, "--bundle", tiny_bundle, *flags, "--forecast", "full")
        assert saved is not None, stderr
        run = run_job(tmp_path / rows, tiny_bundle, *flags)
        assert saved.output.num_rows == len(run.rows)


def write_as(folder: Path, kind: str, made: list[dict[str, Any]]) -> Path:
    path = folder / f"in.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(made), path, row_group_size=500)
    elif kind == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, ["id", "text"])
        writer.writeheader()
        writer.writerows(made)
        path.write_text(out.getvalue())
    else:
        lines = "".join(json.dumps(record) + "\n" for record in made).encode()
        path.write_bytes(gzip.compress(lines) if kind.endswith("gz") else lines)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_a_part_of_the_input_tells_how_much_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made = records(12_000)
    options = ReadOptions((str(write_as(tmp_path, kind, made)),), id_column="id", text_columns=("text",))
    summary = inspect_input(options)
    whole = sample_input(summary, options)
    assert whole.is_whole
    assert (whole.num_total, len(whole.documents)) == (12_000, 12_000)
    monkeypatch.setattr(sample_module, "_PLACE_BYTES", 20_000)
    monkeypatch.setattr(sample_module, "_NUM_PLACES", 10)
    sample = sample_input(summary, options)
    assert not sample.is_whole
    assert sample.num_total == pytest.approx(12_000, rel=0.1)
    assert 0 < sample.num_records < 12_000
    if kind == "jsonl":
        assert sample.num_records < 6000
        numbers = [int(document.doc_id) for document in sample.documents]
        assert min(numbers) < 2000
        assert max(numbers) > 10_000


def test_a_limit_bounds_what_is_forecast(tmp_path: Path) -> None:
    options = ReadOptions((str(write_as(tmp_path, "jsonl", records(50))),), limit=7)
    assert sample_input(inspect_input(options), options).num_total == 7


def measurement(**changes: Any) -> Measurement:
    known = {
        "num_documents": 100,
        "seconds": 10.0,
        "cells_per_second": 1000.0,
        "tokens_per_second": 900.0,
        "load_seconds": 8.0,
        "max_batch_tokens": 4096,
        "rows_per_document": 1.0,
        "bytes_per_row": 1500.0,
        "dead_fraction": 0.0,
    }
    return Measurement(**(known | changes))


def test_the_arithmetic_by_hand() -> None:
    counted = LengthCounts(90, 10, num_tokens=4500, num_padded_tokens=5000, num_long=9, num_lost_tokens=500)
    counts = scale_counts(counted, 2000, 125, 25, 0.1, is_exact=False)
    # 2,000 records, a fifth of them no documents, a tenth of the rest blank, a tenth of the rest dead.
    assert counts.num_dead == 2000 - 1600 * 0.9 * 0.9
    assert (counts.num_tokens, counts.num_padded_tokens) == (72_000, 80_000)
    assert (counts.padding, counts.tokens_per_document, counts.long_fraction) == (pytest.approx(0.1), 50, 0.1)
    here = time_here(counts, measurement(), "machine", 2)
    assert (here.model_seconds, here.seconds) == (80, pytest.approx(80 * 1.03 + 8 + 4))
    machine = find_machine(TABLE, "n2-standard-4")
    assert machine.cores == pytest.approx(4 * 0.55)
    assert machine.price_per_hour == pytest.approx(4 * (0.056 + 4 * 0.003557) + 30 * 0.000054)
    cloud = cost_of(here, machine, TABLE, "bfloat16", 3)
    hours = 80 * 1.03 * 2 / 2.2 / 3600
    (workers,) = cloud.workers
    assert workers.hours == pytest.approx(hours / 3 + 1 / 60, abs=1e-4)
    assert workers.cost == pytest.approx((hours + 3 / 60) * machine.price_per_hour, abs=1e-4)
    assert cloud.warning is not None
    assert cost_of(here, find_machine(TABLE, "c3-standard-4"), TABLE, "bfloat16", None).warning is None


def test_another_precision_costs_its_share_and_its_quality() -> None:
    here = ForecastHere(
        machine="m",
        num_cores=2,
        num_measured_documents=1,
        tokens_per_second=1.0,
        max_batch_tokens=1,
        load_seconds=0.0,
        model_seconds=7200.0,
        seconds=7300.0,
    )
    machine = find_machine(TABLE, "n2-standard-4")
    found = cost_of_precision(here, machine, TABLE, 2.5, 0.28)
    assert (found.model_seconds, found.speedup, found.quality_loss) == (2880.0, 2.5, 0.28)
    hours = 2880 * 1.03 * 2 / 2.2 / 3600 + 1 / 60
    assert found.hours == pytest.approx(hours, abs=1e-4)
    assert found.cost == pytest.approx(hours * machine.price_per_hour, abs=1e-4)


def test_prices_of_ones_own_and_what_is_wrong_with_them(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", records(5))
    flags = ("--bundle", tiny_bundle, "--input", source, "--forecast", "sample")
    own = json.loads((PROJECT / "beam_jobs" / "job" / "dataflow" / "prices.json").read_text())
    own |= {"as_of": "2031-02-03", "currency": "EUR"}
    own["machine_families"] = {"x9-mega": {"gb_per_vcpu": 1, "cores_per_vcpu": 1, "has_bfloat16": True}}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(own))
    prices = ("--prices", path, "--forecast_machine_type", "x9-mega-2", "--max_num_workers", "7")
    code, saved, stdout, _ = forecast(tmp_path / "out", *flags, *prices)
    assert code == 0
    assert saved is not None
    assert [workers.num_workers for workers in saved.dataflow.workers] == [7]
    assert "prices of 2031-02-03" in stdout
    assert "EUR" in stdout
    assert "x9-mega-N" in forecast(tmp_path / "a", *flags, "--prices", path)[3]
    assert "No such file" in forecast(tmp_path / "a", *flags, "--prices", tmp_path / "no.json")[3]
    path.write_text(json.dumps(own | {"vcpu_hour": -1}))
    assert "vcpu_hour: Input should be greater" in forecast(tmp_path / "a", *flags, "--prices", path)[3]
    for name in ("n2-standard", "n2-standard-0", "n2-standard-x", "n3-none-4"):
        with pytest.raises(UsageError, match="n2-standard-N"):
            find_machine(TABLE, name)
    assert "needs --forecast" in forecast(tmp_path / "a", *flags[:4], "--prices", path)[3]


def test_families_are_compared_by_the_measured_speeds() -> None:
    counts = scale_counts(
        LengthCounts(100, 0, num_tokens=900, num_padded_tokens=1000), 100, 100, 0, 0.0, is_exact=True
    )
    here = time_here(counts, measurement(), "machine", 2)
    families = compare_families(here, 100, 4, TABLE, "float32", "avx512_bf16")
    assert [each.cost_per_million for each in families] == sorted(each.cost_per_million for each in families)
    by_name = {each.machine_type: each for each in families}
    hours = here.model_seconds * 1.03 * 2 / (4 * 0.55) / 3600 / 100 * 1e6
    assert by_name["c3d-standard-4"].hours_per_million == pytest.approx(hours, abs=1e-4)
    assert by_name["c3-standard-4"].speed == pytest.approx(86 / 81, abs=0.01)
    assert "n1-standard-4" not in by_name  # no speed is known
    fast = compare_families(here, 100, 4, TABLE, "bfloat16", "avx512_bf16")
    assert fast[0].instructions == "amx"
    assert not [each for each in fast if each.instructions == "avx2"]
    cloud = cost_of(here, find_machine(TABLE, "c3-standard-4"), TABLE, "bfloat16", 1, "avx512_bf16")
    assert cloud.speed == pytest.approx(370 / 147, abs=0.01)
    unknown = cost_of(here, find_machine(TABLE, "c3-standard-4"), TABLE, "bfloat16", 1)
    assert unknown.speed == 1
    assert cloud.vcpu_hours <= unknown.vcpu_hours


def test_the_default_machine_is_the_cheapest_per_document_in_its_precision() -> None:
    assert {default_machines(TABLE, p)[0] for p in ("float32", "bfloat16", "int8")} == {"c3-standard-4"}
    slow = TABLE.model_copy(update={"speeds": TABLE.speeds | {"amx": {"float32": 40, "bfloat16": 370}}})
    assert default_machines(slow, "float32")[0] == "n2-standard-4"
    assert default_machines(slow, "bfloat16")[0] == "c3-standard-4"
    assert default_machines(slow, "int8")[0] == "n2-standard-4"  # c3 would have no speed in it
    assert "in int8 (prices of 2025" in describe_default(TABLE, "int8")
    for machines in TABLE.default_machines.values():
        sizes = [find_machine(TABLE, name) for name in machines]
        assert [each.price_per_hour for each in sizes] == sorted(each.price_per_hour for each in sizes)


def test_a_run_above_its_cost_is_not_started(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", records(50))
    place = ["--bundle", str(tiny_bundle), "--input", str(source), "--output", str(tmp_path / "out")]
    flags, _ = embed_parser().parse_known_args([*place, "--max_cost", "0.001"])
    options = pipeline_options("DirectRunner", ["--max_num_workers=7"], [])
    with capture() as (stdout, stderr), open_console([]) as console:
        with pytest.raises(
            UsageError, match=r"--max_cost 0.001: the forecast is .* on 7 machines c3-standard-4"
        ):
            check_cost(flags, options, console)
        flags.max_cost = 5.0
        check_cost(flags, options, console)
    assert "at most 5 are allowed" in stdout.getvalue() + stderr.getvalue()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("amount", "said"), [("0", "above 0"), ("-1", "above 0"), ("nan", "above 0"), ("1", "remote workers")]
)
def test_a_cost_that_cannot_be_meant_is_refused(
    tiny_bundle: Path, tmp_path: Path, amount: str, said: str
) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", records(5))
    code, _, _, stderr = forecast(
        tmp_path / "out", "--bundle", tiny_bundle, "--input", source, f"--max_cost={amount}"
    )
    assert (code, said in stderr) == (2, True)


def test_input_without_text_cannot_be_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": " "}])
    code, saved, _, stderr = forecast(
        tmp_path / "out", "--bundle", tiny_bundle, "--input", source, "--forecast", "full"
    )
    assert (code, saved) == (2, None)
    assert "has no text" in stderr


def test_the_page_about_scaling_has_the_prices_of_the_table() -> None:
    page = (PROJECT / "docs" / "explanation" / "scaling.md").read_text(encoding="utf-8")
    for number in (f"${TABLE.vcpu_hour}", f"${TABLE.gb_hour}", f"${TABLE.disk_gb_hour:f}", TABLE.as_of):
        assert number in page, number
    assert TABLE.region in page


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ag_news_counts_what_was_forecast(minilm_bundle: Path, tmp_path: Path) -> None:
    """Whole commands; how near the times are is a question to the machine, and a row of the benchmarks."""
    with gzip.open(shared_path("data/ag_news_test.csv.gz"), "rt", encoding="utf-8", newline="") as stream:
        texts = ["\n".join(row[1:]) for row in csv.reader(stream)]
    source = write_jsonl(tmp_path / "in.jsonl", ({"text": text} for text in texts[:2500]))
    flags = ("--bundle", minilm_bundle, "--input", source)
    code, saved, _, stderr = forecast(tmp_path / "out", *flags, "--forecast", "sample")
    assert code == 0, stderr
    assert saved is not None
    manifest = run_job(tmp_path / "out", *flags[1:]).manifest
    assert saved.counts.num_tokens == manifest.counts.num_tokens
    assert saved.output.num_bytes == pytest.approx(sum(f.num_bytes for f in manifest.files), rel=0.25)
