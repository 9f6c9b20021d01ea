"""Bundles, runs and ``.keras`` files that were made before modules moved are still read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import beam_jobs
from beam_jobs.runs.__main__ import main as runs_main
from beam_jobs.store.manifest import RunManifest
from beam_jobs.store.row_columns import without_added
from model_bundle import Encoder, ModelBundle
from tests.conftest import DATA_DIR
from tests.support.runs.jobs import PROJECT, run_job, vectors_of

MADE = DATA_DIR / "before_layout"
# A Keras file names the modules of its layers, so it is loaded where nothing has imported them yet.
_LOAD = """
import sys
import numpy as np
import model_bundle.layers
from model_bundle.layers.keras_setup import keras, tf

folder, output = sys.argv[1:]
with np.load(f"{folder}/model.npz") as stored:
    fed = {name: tf.constant(stored[name]) for name in stored.files if name != "expected"}
np.save(output, keras.saving.load_model(f"{folder}/model.keras")(fed).numpy())
"""


def test_a_keras_file_loads_and_gives_what_it_gave(tmp_path: Path) -> None:
    output = tmp_path / "found.npy"
    command = [sys.executable, "-c", _LOAD, str(MADE), str(output)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(MADE / "model.npz") as stored:
        np.testing.assert_allclose(np.load(output), stored["expected"], atol=1e-6)


def test_a_bundle_is_whole_and_holds_its_golden_vectors() -> None:
    bundle = ModelBundle.open(MADE / "bundle")
    assert bundle.manifest.name == "tiny"
    assert Encoder(MADE / "bundle").encode(["the cat"]).shape == (1, 16)


def test_a_run_is_valid_and_its_rows_are_those_of_today(tmp_path: Path) -> None:
    assert runs_main([str(MADE / "run"), "validate"]) == 0
    before = beam_jobs.open_run(str(MADE / "run")).to_table()
    texts = tmp_path / "two.txt"
    texts.write_text("A cat sat on the mat.\nDogs run home, quickly.\n", encoding="utf-8")
    after = run_job(tmp_path / "out", Path("bert-mini"), "--input", texts)
    assert without_added(after.rows.schema).remove_metadata() == before.schema.remove_metadata()
    elsewhere = ["embedding", "source"]
    today = after.rows.select(before.schema.names)
    assert today.drop(elsewhere).to_pydict() == before.drop(elsewhere).to_pydict()
    # The run names the bert-mini of its day, whose vectors are those of another model now.
    manifest = RunManifest.from_bytes((MADE / "run" / "manifest.json").read_bytes(), "the run")
    assert manifest.bundle["digest"].startswith("2d2d0b7e417d")
    assert (
        after.manifest.bundle["digest"] == ModelBundle.open("bert-mini").digest != manifest.bundle["digest"]
    )
    assert vectors_of(before).shape == vectors_of(after.rows).shape
    np.testing.assert_allclose(np.linalg.norm(vectors_of(before), axis=1), 1.0, atol=1e-5)
