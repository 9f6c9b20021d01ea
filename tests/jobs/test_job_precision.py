"""Jobs in the precision that ``--precision`` names or leaves to the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_jobs.embed import main
from beam_jobs.job.forecast.estimate import Forecast
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.base.machine import has_fast_int8
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import SettingsError
from model_bundle.quantize.build import quantize_bundle
from tests.support.runs.jobs import capture, run_job, vectors_of, write_texts

TEXTS = [f"the {('cat', 'dog', 'quick brown time')[at % 3]} sat on {'a ' * (at % 7)}mat" for at in range(60)]


def test_a_bundle_whose_quality_was_not_measured_is_computed_in_float32(tiny_bundle: Path) -> None:
    settings = EncodeSettings.resolve(str(tiny_bundle), precision="auto", max_quality_loss=100.0)
    assert settings.request.precision == "float32"
    assert settings.digest == EncodeSettings.resolve(str(tiny_bundle)).digest
    with pytest.raises(SettingsError, match="has no int8 weights"):
        EncodeSettings.resolve(str(tiny_bundle), precision="int8")


@pytest.mark.slow
def test_one_precision_is_chosen_at_submission_and_recorded_everywhere(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    if not has_fast_int8():
        pytest.skip("this processor has no integer products that cannot saturate")
    quantize_bundle(ModelBundle.open(tiny_bundle), TEXTS, tmp_path / "int8")
    source = write_texts(tmp_path / "in.jsonl", TEXTS)
    flags = ("--input", source, "--id_column", "id")
    auto = ("--precision", "auto", "--max_quality_loss", "5")
    int8 = run_job(tmp_path / "auto", tmp_path / "int8", *flags, *auto)
    plain = run_job(tmp_path / "plain", tmp_path / "int8", *flags)
    assert (int8.exit_code, plain.exit_code) == (0, 0), int8.stderr + plain.stderr
    chosen = int8.manifest.precision
    assert chosen in ("int8", "int8_bfloat16")  # the second on a processor that has bfloat16, too
    assert plain.manifest.precision == "float32"
    assert int8.manifest.settings_digest != plain.manifest.settings_digest
    (file,) = int8.manifest.files[:1]
    metadata = pq.read_schema(int8.root / file.path).metadata
    assert metadata[b"beam_jobs.precision"] == chosen.encode()
    found, expected = (vectors_of(run.rows.sort_by("doc_id")) for run in (int8, plain))
    cosines = (found * expected).sum(axis=1)
    assert cosines.min() > 0.99
    assert cosines.min() < 1 - 1e-6  # not float under another name

    with capture() as (_, stderr):
        code = main(
            list(
                map(
                    str, ("--bundle", tmp_path / "int8", *flags, "--forecast", "sample", "--output", tmp_path)
                )
            )
        )
    assert code == 0, stderr.getvalue()
    saved = Forecast.model_validate_json((tmp_path / "forecast.json").read_bytes())
    other = saved.other_precisions["int8"]
    assert other.quality_loss is not None
    assert 0 < other.quality_loss < 5
    assert other.model_seconds == pytest.approx(saved.here.model_seconds / other.speedup, abs=0.02, rel=0.02)
    assert np.isfinite(other.cost)
