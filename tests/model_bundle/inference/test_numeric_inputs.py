"""Numbers beside the text: from columns of a table to the inputs of a model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import EncodeDocuments, EncodeSettings
from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.encode.run_inference import BundleModelHandler
from beam_jobs.pipeline.read.column_types import number_converter
from beam_jobs.pipeline.read.documents import RecordError
from model_bundle.builders.assemble import LICENCE_NAME, assemble, save_module
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.specs import InputSpec, OutputSpec, SourceSpec, TokenizerSpec
from model_bundle.cli.main import main as bundle_command
from model_bundle.errors import ModelRunError, SettingsError
from model_bundle.inference import speedups
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.request import EncodeRequest
from tests.conftest import shared_path
from tests.support.models.tiny import tiny_tokenizer, tiny_vocabulary
from tests.support.runs.jobs import Run, run_classify, run_job

TEXTS = ["a cat", "the dog ran home", "on the mat", "quick"]
AGES = [3.0, 41.5, 0.25, -7.0]
SIZES = [1, 20, 300, 4000]
# Two inputs of numbers, one of them of whole ones, that share a column and name them in other orders.
NUMBERS = {
    "features": InputSpec(role="numeric", dtype="float32", columns=("size", "age")),
    "mask": InputSpec(role="numeric", dtype="int32", columns=("size",)),
}
INPUTS = {
    "text": {"text": InputSpec(role="text", dtype="string")},
    "subwords": {"ids": InputSpec(role="ids", dtype="int32")},
}


# For what is the same whatever the model reads beside its numbers.
ONE_KIND = pytest.mark.parametrize(
    "bundle", ["text", pytest.param("subwords", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(scope="module", params=INPUTS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A model of text or ids and numbers: characters or ids, age, size, size once more."""
    kind = request.param
    manifest = BundleManifest(
        name="numbers",
        task="embed",
        family="saved_model",
        inputs=INPUTS[kind] | NUMBERS,
        outputs={"vector": OutputSpec(kind="text", dim=4)},
        default_output="vector",
        tokenizer=TokenizerSpec(kind=kind),
        source=SourceSpec(kind="test", location="made here"),
        licence="Apache-2.0",
    )
    return assemble(tmp_path_factory.mktemp("bundles") / kind, manifest, lambda path: write_model(path, kind))


def write_model(staging: Path, kind: str) -> None:
    module = tf.Module()

    def serve(**fed: Any) -> dict[str, Any]:
        first = tf.strings.length(fed["text"]) if kind == "text" else tf.reduce_sum(fed["ids"], axis=1)
        features = fed["features"]
        columns = [first, features[:, 1], features[:, 0], fed["mask"][:, 0]]
        return {"vector": tf.stack([tf.cast(column, tf.float32) for column in columns], axis=1)}

    given = tf.TensorSpec([None], tf.string) if kind == "text" else tf.TensorSpec([None, None], tf.int32)
    specs = {
        kind if kind == "text" else "ids": given,
        "features": tf.TensorSpec([None, 2], tf.float32),
        "mask": tf.TensorSpec([None, 1], tf.int32),
    }
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
    module.serve = tf.function(serve, autograph=False)
    concrete = module.serve.get_concrete_function(**named)
    save_module(module, staging / SAVED_MODEL_DIR, {"serving_default": concrete})
    (staging / LICENCE_NAME).write_text("Apache License, Version 2.0")
    if kind == "subwords":
        (staging / TOKENIZER_FILE).parent.mkdir()
        tiny_tokenizer(tiny_vocabulary()).save(str(staging / TOKENIZER_FILE))


def first_of(bundle: ModelBundle, text: str) -> float:
    """What the model makes of a text alone."""
    if bundle.manifest.tokenizer.kind == "text":
        return len(text)
    return sum(tiny_tokenizer(tiny_vocabulary()).encode(text).ids)


def expected(bundle: ModelBundle, text: str, age: float, size: float) -> list[float]:
    return [first_of(bundle, text), age, size, size]


def test_numbers_go_to_their_inputs_in_memory(bundle: ModelBundle) -> None:
    encoder = Encoder(bundle, buffer_texts=3)
    found = encoder.encode(TEXTS, {"age": AGES, "size": np.array(SIZES)})
    rows = zip(TEXTS, AGES, SIZES, strict=True)
    np.testing.assert_array_equal(found, [expected(bundle, *row) for row in rows])
    whole = {"features": np.stack([SIZES, AGES], axis=1)}
    np.testing.assert_array_equal(encoder.encode(TEXTS, whole), found)


@pytest.mark.parametrize(
    ("numeric", "message"),
    [
        (None, "takes numbers from the columns 'size', 'age', but was given none"),
        ({"age": AGES}, "'size', 'age', but was given 'age'"),
        ({"age": AGES, "size": SIZES, "weight": AGES}, "was given 'age', 'size', 'weight'"),
        ({"age": AGES, "size": SIZES[:3]}, r"'size' has shape \[3\]; expected one number for each of 4"),
        ({"age": AGES, "size": ["1", "two", "3", "4"]}, "'size' contains a value that is not a number"),
        ({"features": [[1.0, 2.0, 3.0]] * 4}, "'size', 'age', but was given 'features'"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_memory(
    numeric: Any, message: str, bundle: ModelBundle
) -> None:
    with pytest.raises(SettingsError, match=message):
        Encoder(bundle).encode(TEXTS, numeric)


@pytest.mark.parametrize(
    ("name", "value"), [("age", math.nan), ("age", 1e39), ("size", 1.5), ("size", 2.0**31)]
)
def test_numbers_that_the_input_cannot_hold_are_refused_in_memory(
    name: str, value: float, bundle: ModelBundle
) -> None:
    columns: dict[str, list[float]] = {"age": list(AGES), "size": [float(size) for size in SIZES]}
    columns[name][2] = value
    with pytest.raises(ModelRunError, match="the first is number 2: A number of this text does not fit"):
        Encoder(bundle).encode(TEXTS, columns)


def test_a_model_of_text_takes_no_numbers(text_bundle: Path) -> None:
    with pytest.raises(SettingsError, match="from the columns none, but was given 'age'"):
        Encoder(text_bundle).encode(["a"], {"age": [1.0]})


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def write_lines(path: Path, columns: dict[str, Any]) -> Path:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join("" if value is None else str(value) for value in row) for row in rows]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


WRITERS = {"in.parquet": write_parquet, "in.jsonl": write_lines, "in.csv": write_csv}


@pytest.mark.parametrize("name", WRITERS)
def test_a_job_reads_numbers_from_a_table(name: str, bundle: ModelBundle, tmp_path: Path) -> None:
    columns = {"id": ["a", "b", "c", "d"], "size": SIZES, "text": TEXTS, "other": AGES, "age": AGES}
    source = WRITERS[name](tmp_path / name, columns)
    run = run_job(
        tmp_path / "out", bundle.path, "--input", source, "--id_column", "id", "--keep_columns", "size"
    )
    assert run.exit_code == 0, run.stderr
    for row in zip("abcd", TEXTS, AGES, SIZES, strict=True):
        np.testing.assert_array_equal(run.vectors[row[0]], expected(bundle, *row[1:]))
    # Kept as it is, although the model reads it as a number, too.
    assert list(map(str, run.column("size"))) == list(map(str, SIZES))


# Reason by cell; None where there is a row.
CELLS: dict[str, list[tuple[Any, str | None]]] = {
    "in.jsonl": [
        (2, None),
        ("3", None),
        (True, None),
        (None, "missing_number"),
        ("", "missing_number"),
        (math.nan, "missing_number"),
        (math.inf, "not_a_number"),
        ("abc", "not_a_number"),
        ("1_000", "not_a_number"),
        ([1], "not_a_number"),
        (10**400, "not_a_number"),
        (1.5, "number_range"),
        (2**40, "number_range"),
    ],
    "in.csv": [
        ("2", None),
        (" 3.0 ", None),
        ("1e2", None),
        ("", "missing_number"),
        ("nan", "missing_number"),
        ("1e999", "not_a_number"),
        ("n/a", "not_a_number"),
        ("٣½", "not_a_number"),
        ("0.5", "number_range"),
    ],
    "in.parquet": [
        ("2", None),
        (" 3 ", None),
        (None, "missing_number"),
        ("NaN", "missing_number"),
        ("abc", "not_a_number"),
        ("-inf", "not_a_number"),
        ("2.5", "number_range"),
    ],
}


def check_cells(run: Run, cells: list[tuple[Any, str | None]]) -> None:
    assert run.reasons == {str(i): reason for i, (_, reason) in enumerate(cells) if reason is not None}
    assert sorted(run.vectors) == sorted(str(i) for i, (_, reason) in enumerate(cells) if reason is None)
    for index, (value, reason) in enumerate(cells):
        if reason is None:
            assert run.vectors[str(index)][2] == float(value)
    stages = {letter["reason"]: letter["stage"] for letter in run.dead}
    assert {stage for reason, stage in stages.items() if reason != "number_range"} <= {"read"}
    assert stages.get("number_range", "encode") == "encode"
    assert all(letter["text"] for letter in run.dead)
    assert all(str(value) not in letter["message"] for letter in run.dead for value in ("abc", "n/a"))


@ONE_KIND
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_without_a_number_is_a_dead_letter(name: str, bundle: ModelBundle, tmp_path: Path) -> None:
    cells = CELLS[name]
    columns = {
        "id": [str(index) for index in range(len(cells))],
        "text": ["a cat"] * len(cells),
        "age": [1.0] * len(cells),
        "size": [value for value, _ in cells],
    }
    source = WRITERS[name](tmp_path / name, columns)
    run = run_job(
        tmp_path / "out", bundle.path, "--input", source, "--id_column", "id", "--max_dead_fraction", "1"
    )
    assert run.exit_code == 0, run.stderr
    check_cells(run, cells)


@ONE_KIND
@pytest.mark.parametrize(
    "array",
    [
        pa.array([2.5, None, math.nan], pa.float64()),
        pa.array([2.5, None, math.nan], pa.float32()),
        pa.array([2, None, None], pa.uint8()),
        pa.array([2, None, None], pa.decimal128(9, 2)),
        pa.array([True, None, None]),
        pa.array(["2", None, ""]).dictionary_encode(),
        pa.array(["2", None, "nan"], pa.large_string()),
        pa.array([2, None, None], pa.int64()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_every_type_of_number_in_parquet_is_read(array: Any, bundle: ModelBundle, tmp_path: Path) -> None:
    table = {"id": ["a", "b", "c"], "text": ["a cat"] * 3, "size": [1] * 3, "age": array}
    source = write_parquet(tmp_path / "in.parquet", table)
    run = run_job(
        tmp_path / "out", bundle.path, "--input", source, "--id_column", "id", "--max_dead_fraction", "1"
    )
    assert run.reasons == {"b": "missing_number", "c": "missing_number"}
    assert run.vectors["a"][1] == float(array[0].as_py())


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_is_told_before_any_work(name: str, bundle: ModelBundle, tmp_path: Path) -> None:
    source = WRITERS[name](tmp_path / name, {"text": TEXTS, "size": SIZES, "Age": AGES})
    run = run_job(tmp_path / "out", bundle.path, "--input", source)
    assert run.exit_code == 2
    assert "takes numbers from columns, but 'age' is not a column of" in run.stderr
    assert "Did you mean 'Age'?" in run.stderr
    assert not run.root.exists()


def test_input_that_can_hold_no_numbers_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    lists = write_parquet(tmp_path / "in.parquet", {"text": ["a"], "size": [1], "age": [[1.0]]})
    run = run_job(tmp_path / "out", bundle.path, "--input", lists)
    assert (run.exit_code, "from column 'age', but in" in run.stderr) == (2, True)
    (tmp_path / "in.txt").write_text("a cat\n")
    run = run_job(tmp_path / "out", bundle.path, "--input", tmp_path / "in.txt")
    assert (run.exit_code, "in.txt has no columns" in run.stderr) == (2, True)
    run = run_job(tmp_path / "out", bundle.path)
    assert (run.exit_code, "'size' is not a column of" in run.stderr) == (2, True)


@ONE_KIND
def test_the_only_column_that_is_no_number_is_the_text(bundle: ModelBundle, tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "in.parquet", {"size": SIZES, "review": TEXTS, "age": AGES})
    run = run_job(tmp_path / "out", bundle.path, "--input", source)
    assert (run.exit_code, len(run.vectors)) == (0, 4), run.stderr


def test_steps_that_do_not_know_of_the_numbers_are_told(bundle: ModelBundle) -> None:
    settings = EncodeSettings.resolve(str(bundle.path))
    assert settings.numeric_columns == ("size", "age")
    assert ReadOptions(("x.parquet",), numeric_columns=settings.numeric_columns).numeric_columns == (
        "size",
        "age",
    )
    with pytest.raises(UsageError, match="takes only texts"):
        BundleModelHandler(settings)
    with (
        pytest.raises(Exception, match=r"has 0 numbers, but the model takes 2: pass their columns"),
        beam.Pipeline() as p,
    ):
        p | beam.Create([Document("a", "here", "a cat")]) | EncodeDocuments(settings)


convert: Callable[[Any], float] = number_converter("x")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_spelled_out_is_the_number(number: float) -> None:
    assert convert(number) == convert(repr(number)) == convert(f" {number!r}\n".encode()) == number


@given(st.one_of(st.text(), st.binary(), st.lists(st.integers()), st.integers(), st.booleans(), st.none()))
def test_a_cell_is_a_finite_number_or_has_a_reason(value: Any) -> None:
    try:
        outcome: float | str = convert(value)
    except RecordError as error:
        outcome = error.reason
    is_number = isinstance(outcome, float) and math.isfinite(outcome)
    assert is_number or outcome in ("missing_number", "not_a_number")


@pytest.mark.slow
def test_an_old_classifier_of_text_and_numbers_runs_from_a_table(tmp_path: Path) -> None:
    """Against what its own stack computed: TensorFlow 2.15, with its tokenizer."""
    folder = shared_path("fixtures/keras_legacy/dev/004/example2_numerical_features")
    names = [f"f{index}" for index in range(10)]
    command = [
        "build",
        "keras",
        str(folder / "my_bert_classifier_keras"),
        "--output",
        str(tmp_path / "bundle"),
    ]
    assert bundle_command([*command, "--extra_input", f"numerical_features={','.join(names)}"]) == 0
    case = json.loads((folder / "expected.json").read_text())["cases"][0]
    numbers = np.array(case["inputs"]["numerical_features"])
    columns = {"id": list(map(str, range(len(numbers)))), "text": case["texts"]}
    columns |= {name: numbers[:, index].tolist() for index, name in enumerate(names)}
    columns["f3"][2] = None
    source = write_parquet(tmp_path / "in.parquet", columns)
    flags = ("--input", source, "--id_column", "id", "--max_dead_fraction", "1")
    run = run_classify(tmp_path / "out", tmp_path / "bundle", *flags)
    assert run.exit_code == 0, run.stderr
    blank = {str(index): "blank_text" for index, text in enumerate(case["texts"]) if not text.strip()}
    assert run.reasons == blank | {"2": "missing_number"}
    for doc_id, scores in zip(run.column("doc_id"), run.column("scores"), strict=True):
        np.testing.assert_allclose(scores, case["outputs"]["output"][int(doc_id)], atol=1e-5)
    classifier = Classifier(tmp_path / "bundle")
    found = classifier.classify(case["texts"], {name: numbers[:, i] for i, name in enumerate(names)})
    np.testing.assert_allclose(found.scores, case["outputs"]["output"], atol=1e-5)


@ONE_KIND
def test_the_measure_of_precisions_brings_numbers_of_its_own(bundle: ModelBundle) -> None:
    assert speedups._seconds(bundle, EncodeRequest.resolve(bundle)) > 0
