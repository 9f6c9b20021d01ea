"""Artefacts that the original stacks made, and what they computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import InputSpec, Precision
from model_bundle.errors import ModelRunError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.inputs import numeric_key
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from tests.conftest import shared_path
from tests.support.runs.jobs import run_classify, run_job, vectors_of, write_texts

DEV = "fixtures/keras_legacy/dev"


@dataclass(frozen=True)
class Case:
    """One call of the original model. ``outputs`` is empty where that failed."""

    name: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def by_role(self, specs: Mapping[str, InputSpec]) -> dict[str, np.ndarray]:
        """Returns the inputs as a runtime takes them; the only input may have got another name."""
        arrays = {}
        for name, spec in specs.items():
            array = self.inputs[name if name in self.inputs else next(iter(self.inputs))]
            if spec.role == "text":
                array = array.reshape(len(array))
            arrays[numeric_key(name) if spec.role == "numeric" else spec.role] = array
        return arrays


@dataclass(frozen=True)
class Artefact:
    """A folder of ``fixtures/keras_legacy/dev``."""

    path: Path
    expected: dict[str, Any]

    @property
    def atol(self) -> float:
        return float(self.expected["atol"])

    def cases(self) -> Iterator[Case]:
        """Returns the recorded calls."""
        for case in self.expected["cases"]:
            inputs = {
                name: _array(value, case["input_shapes"][name], case["input_dtypes"][name])
                for name, value in case["inputs"].items()
            }
            outputs = {
                name: _array(value, case["output_shapes"][name], "float32")
                for name, value in case.get("outputs", {}).items()
            }
            yield Case(case["name"], inputs, outputs)

    def texts(self) -> dict[str, np.ndarray]:
        """Returns the original stack's output for each text: alone, or in a batch padded to one length."""
        whole = self.expected["cases"][0]
        if "texts" in whole:
            (rows,) = next(self.cases()).outputs.values()
            return dict(zip(whole["texts"], rows, strict=True))
        singles = [case for case in self.cases() if case.name.startswith("single_") and case.outputs]
        return {
            b" ".join(next(iter(case.inputs.values())).ravel()).decode(): next(iter(case.outputs.values()))[0]
            for case in singles
        }


def artefact(name: str) -> Artefact:
    """Opens an artefact, or skips the test."""
    path = shared_path(f"{DEV}/{name}")
    return Artefact(path, json.loads((path / "expected.json").read_text("utf-8")))


def check_cases(bundle: ModelBundle, made: Artefact) -> int:
    """Runs every recorded call on a bundle, and compares; what failed there must fail here.

    Returns:
        how many outputs were compared.
    """
    manifest = bundle.manifest
    outputs = tuple(name for name, spec in manifest.outputs.items() if spec.kind != "length")
    request = EncodeRequest(outputs, None, False, None, "", Precision.FLOAT32)
    runtime = TensorFlowRuntime(bundle, request)
    compared = 0
    for case in made.cases():
        if not case.outputs:
            try:
                runtime.run(case.by_role(manifest.inputs))
            except ModelRunError:
                continue
            raise AssertionError(f"{case.name} failed in the original stack")
        found = runtime.run(case.by_role(manifest.inputs))
        for name, expected in case.outputs.items():
            array = found[name] if name in found else found[manifest.default_output]
            np.testing.assert_allclose(array, expected, atol=made.atol, rtol=0, err_msg=case.name)
            compared += 1
    return compared


def check_texts(bundle: ModelBundle, made: Artefact) -> None:
    """Texts in memory: in one batch, or in batches of equal length."""
    expected = made.texts()
    if bundle.manifest.task == "classify":
        found = Classifier(bundle).classify(list(expected)).logits
    else:
        found = Encoder(bundle).encode(list(expected))
    for text, row in zip(expected, found, strict=True):
        np.testing.assert_allclose(row, vector(expected[text]), atol=made.atol, rtol=0, err_msg=text)


def check_job(bundle: ModelBundle, made: Artefact, folder: Path) -> None:
    """Texts through the Beam job: each is a row or, where it is blank, a dead letter."""
    expected = made.texts()
    is_classifier = bundle.manifest.task == "classify"
    flags = ("--input", write_texts(folder / "texts.jsonl", list(expected)), "--id_column", "id")
    job = run_classify if is_classifier else run_job
    run = job(folder / "run", bundle.path, *flags, *(("--keep_logits",) if is_classifier else ()))
    assert run.exit_code == 0, run.stderr
    rows = vectors_of(run.rows, "logits" if is_classifier else "embedding")
    texts = list(expected)
    done = [texts[int(number)] for number in run.column("doc_id")]
    assert sorted(done) == sorted(text for text in texts if text.strip())
    for text, row in zip(done, rows, strict=True):
        np.testing.assert_allclose(row, vector(expected[text]), atol=made.atol, rtol=0, err_msg=text)


def check_number_job(bundle: ModelBundle, made: Artefact, folder: Path) -> None:
    """Numbers through the Beam job, a column of a table for each; such a model looks at no text."""
    manifest, compared = bundle.manifest, 0
    is_classifier = manifest.task == "classify"
    job = run_classify if is_classifier else run_job
    for case in (case for case in made.cases() if case.outputs):
        arrays = case.by_role(manifest.inputs)
        columns: dict[str, Any] = {}
        for name, spec in manifest.inputs.items():
            columns |= dict(zip(spec.columns, arrays[numeric_key(name)].T, strict=True))
        num_rows = len(next(iter(columns.values())))
        table = pa.table({"id": [str(row) for row in range(num_rows)], **columns})
        pq.write_table(table, folder / f"{case.name}.parquet")
        flags = ["--input", folder / f"{case.name}.parquet", "--id_column", "id", "--text_column", "id"]
        flags += ["--keep_logits"] if is_classifier else []
        run = job(folder / f"run-{case.name}", bundle.path, *flags)
        assert run.exit_code == 0, run.stderr
        expected = case.outputs.get(manifest.default_output, next(iter(case.outputs.values())))
        found = vectors_of(run.rows, "logits" if is_classifier else "embedding")
        np.testing.assert_allclose(found, expected.reshape(num_rows, -1), atol=made.atol, rtol=0)
        compared += num_rows
    assert compared


def vector(output: np.ndarray) -> np.ndarray:
    """Returns the mean of vectors a token, and others as they are."""
    return output if output.ndim == 1 else np.asarray(output.mean(axis=0))


def _array(value: Any, shape: list[int], dtype: str) -> np.ndarray:
    if dtype != "string":
        return np.array(value, dtype=dtype).reshape(shape)
    flat = [text.encode("utf-8") for text in _flatten(value)]
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def _flatten(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value:
            yield from _flatten(part)
