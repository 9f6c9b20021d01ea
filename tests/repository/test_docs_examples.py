"""The examples of the pages run as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.encoder import Encoder
from tests.support.runs.jobs import Run, run_job

DOCS = Path(__file__).parents[2] / "docs"
# With the library that each needs and a plain installation has not.
TOOLS = ["open_run", "DuckDB", "pandas", "Polars", "datasets", "FAISS", "LanceDB", "pyarrow"]
LIBRARIES = {"FAISS": "faiss", "LanceDB": "lancedb"}
SAMPLES = [
    {"id": "a", "text": "Owls hunt at night.", "topic": "birds"},
    {"id": "b", "text": "Owls hunt at night in the woods.", "topic": "birds"},
    {"id": "c", "text": "Trains leave every hour.", "topic": "trains"},
    {"id": "d", "text": "Interest rates rose again.", "topic": "money"},
]


def examples(page: str) -> dict[str, str]:
    """Returns the code of a page by the heading above it."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return {
        title: found[1]
        for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        if (found := re.search(r"```python\n(.*?)```", body, re.DOTALL))
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_model_on_keras_layers(tiny_bundle: Path, tmp_path: Path) -> None:
    scope: dict[str, Any] = {"BUNDLE": str(tiny_bundle), "OUTPUT": str(tmp_path / "model.keras")}
    exec(examples("how-to/training.md")["Keras layers"], scope)
    assert scope["model"].predict(scope["embedding"].tokenize(["Owls."]), verbose=0).shape == (1, 2)
    assert (tmp_path / "model.keras").is_file()


@pytest.mark.slow
def test_a_mix_on_elmo(tiny_elmo: Path) -> None:
    scope: dict[str, Any] = {"ELMO": ModelBundle.open(tiny_elmo)}
    exec(examples("how-to/training.md")["The mix of ELMo"], scope)
    assert scope["model"].output_shape == (None, 2)


@pytest.fixture(scope="module")
def run(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on four documents."""
    folder = tmp_path_factory.mktemp("run")
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps(sample) + "\n" for sample in SAMPLES))
    done = run_job(folder / "out", tiny_bundle, "--input", source, "--id_column", "id")
    assert done.exit_code == 0, done.stderr
    return done


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_finds_the_same_neighbours(run: Run, tmp_path: Path, tool: str) -> None:
    if tool in LIBRARIES:
        pytest.importorskip(LIBRARIES[tool])
    scope: dict[str, Any] = {"RUN": str(run.root), "CACHE": str(tmp_path)}
    exec(examples("how-to/reading-output.md")[tool], scope)
    vectors = np.stack([run.vectors[key] for key in "abcd"]).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = sorted(zip("bcd", vectors[1:] @ vectors[0], strict=True), key=lambda pair: -pair[1])[:2]
    assert [name for name, _ in scope["nearest"]] == [name for name, _ in expected]
    np.testing.assert_allclose([c for _, c in scope["nearest"]], [c for _, c in expected], atol=1e-5)


def test_the_statements_for_bigquery_parse(run: Run) -> None:
    sqlglot = pytest.importorskip("sqlglot")
    page = (DOCS / "how-to" / "reading-output.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    statements = sqlglot.parse(block, read="bigquery")
    create, load, merge, index, select = statements
    # sqlglot knows no vector index and hands the statement through as text; the others are parsed whole.
    kinds = [type(statement).__name__ for statement in statements]
    assert kinds == ["Create", "LoadData", "Merge", "Command", "Select"]
    assert index.sql(dialect="bigquery").startswith("CREATE VECTOR INDEX")
    assert "enable_list_inference" in load.sql(dialect="bigquery")
    assert len(merge.args["whens"].expressions) == 3
    assert select.find(sqlglot.exp.VectorSearch) is not None
    # What is merged is what a run has, and what the table was made with.
    columns = {column.name for column in create.find_all(sqlglot.exp.ColumnDef)}
    inserted = {column.name for column in merge.find(sqlglot.exp.Insert).find_all(sqlglot.exp.Column)}
    assert columns == inserted == set(run.rows.schema.names) - {"text"}


def test_files_say_how_they_were_made(run: Run) -> None:
    scope: dict[str, Any] = {"RUN": str(run.root), "Path": Path}
    exec(examples("how-to/reading-output.md")["What the files say of themselves"], scope)
    assert scope["settings"]["bundle_digest"] == run.manifest.bundle["digest"]
    assert scope["settings"]["precision"] == "float32"


def test_documents_of_your_own(tiny_bundle: Path, tmp_path: Path) -> None:
    scope: dict[str, Any] = {"BUNDLE": str(tiny_bundle), "OUTPUT": str(tmp_path)}
    exec(examples("how-to/pipelines.md")["Documents of your own"], scope)
    done = Run(0, tmp_path / "own", "", "")
    assert sorted(done.column("doc_id")) == ["a", "c"]
    assert done.reasons == {"d": "blank_text"}
    assert done.manifest.counts.num_read == 3
    expected = Encoder(tiny_bundle).encode(["An owl hunts at night.", "Trains leave every hour."])
    np.testing.assert_allclose([done.vectors["a"], done.vectors["c"]], expected, atol=1e-5)


def test_vectors_without_a_run(tiny_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(sample) + "\n" for sample in SAMPLES))
    _collected.clear()
    code = examples("how-to/pipelines.md")["Vectors without a run"].replace("found.append", "_append")
    exec(code, {"BUNDLE": str(tiny_bundle), "INPUT": str(source), "_append": _append})
    assert sorted(_collected) == [("birds", 2), ("money", 1), ("trains", 1)]


def test_run_inference(tiny_bundle: Path) -> None:
    _collected.clear()
    code = examples("how-to/pipelines.md")["Inside RunInference"].replace("found.append", "_append")
    exec(code, {"BUNDLE": str(tiny_bundle), "_append": _append})
    expected = Encoder(tiny_bundle).encode(["An owl hunts at night.", "Trains leave every hour."])
    for (_, vector), wanted in zip(sorted(_collected, key=lambda pair: pair[0]), expected, strict=True):
        np.testing.assert_allclose(vector, wanted, atol=1e-5)


# Steps are pickled: what they collect must be found by name.
_collected: list[Any] = []


def _append(value: Any) -> None:
    _collected.append(value)


def test_windows_in_memory(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(examples("explanation/long-texts.md")["In memory"], {"BUNDLE": str(tiny_bundle)})
    printed = capsys.readouterr().out
    assert re.match(r"\[ +0 +\d\d", printed)
    assert re.search(r"12500\] \(\d\d\d, 16\)\n$", printed)


def test_a_log_is_read_by_its_last_object(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(sample) + "\n" for sample in SAMPLES))
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--log_format", "json")
    (tmp_path / "log").write_text(run.stderr)
    exec(examples("how-to/monitoring.md")["JSON"], {"LOG": tmp_path / "log"})
    assert capsys.readouterr().out == "run True 4\n"
