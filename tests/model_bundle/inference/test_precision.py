"""The choice of ``--precision auto``."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_bundle.base.cache import CACHE_VARIABLE
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import (
    InputSpec,
    Int8Spec,
    OutputSpec,
    Precision,
    PrecisionQuality,
    SourceSpec,
    TokenizerSpec,
)
from model_bundle.errors import SettingsError
from model_bundle.inference import speedups
from model_bundle.inference.precision import choose_precision, quality_loss
from model_bundle.inference.speedups import known_seconds


def quality(rank_correlation: float) -> PrecisionQuality:
    return PrecisionQuality(
        num_texts=200,
        min_cosine=0.99,
        mean_cosine=0.99,
        rank_correlation=rank_correlation,
        calibration_rank_correlation=1.0,
        same_nearest=1.0,
    )


def manifest(int8: float | None, bfloat16: float = 0.9999) -> BundleManifest:
    spec = None
    if int8 is not None:
        spec = Int8Spec(quality={Precision.INT8: quality(int8), Precision.BFLOAT16: quality(bfloat16)})
    return BundleManifest(
        name="m",
        task="embed",
        family="bert",
        bfloat16_signature="serving_bfloat16",
        int8=spec,
        inputs={"input_ids": InputSpec(role="ids", dtype="int32")},
        outputs={"states_0": OutputSpec(kind="token", dim=4)},
        default_output="states_0",
        tokenizer=TokenizerSpec(kind="subwords"),
        source=SourceSpec(kind="test", location="here"),
        licence="Apache-2.0",
    )


@pytest.mark.parametrize(
    ("int8", "limit", "has_bfloat16", "has_int8", "expected"),
    [
        (0.9975, 0.3, True, True, "int8"),
        (0.9965, 0.3, True, True, "bfloat16"),  # 0.35 % is over the limit
        (0.9965, 0.4, True, True, "int8"),
        (0.9965, 0.3, False, True, "float32"),
        (0.9975, 0.3, True, False, "bfloat16"),
        (0.9975, 0.0, True, True, "float32"),
        (None, 100.0, True, True, "float32"),  # nothing was measured
    ],
)
def test_the_fastest_within_the_limit_is_chosen(
    int8: float | None, limit: float, has_bfloat16: bool, has_int8: bool, expected: str
) -> None:
    has = {Precision.FLOAT32: True, Precision.BFLOAT16: has_bfloat16, Precision.INT8: has_int8}
    chosen = choose_precision(manifest(int8), limit, [p for p, fast in has.items() if fast], {})
    assert chosen == expected


def test_a_loss_is_a_percentage_of_rank_correlation() -> None:
    made = manifest(0.9975)
    assert quality_loss(made, Precision.INT8) == pytest.approx(0.25)
    assert quality_loss(made, Precision.FLOAT32) == 0
    assert quality_loss(manifest(None), Precision.BFLOAT16) is None


@pytest.mark.parametrize("limit", [-0.1, 101.0, float("nan")])
def test_a_limit_that_is_no_percentage_is_refused(limit: float) -> None:
    with pytest.raises(SettingsError, match="expected a percentage"):
        choose_precision(manifest(None), limit, list(Precision), {})


def test_bundles_without_int8_keep_their_bytes() -> None:
    assert b"int8" not in manifest(None).to_bytes()
    made = manifest(0.9975)
    assert BundleManifest.from_bytes(made.to_bytes(), "here") == made


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"int8": 2.0, "bfloat16": 1.9, "float32": 3.0}, "bfloat16"),  # a small model gains nothing by int8
        ({"int8": 2.0, "bfloat16": 2.1, "float32": 1.9}, "float32"),
        ({"int8": 2.0, "float32": 1.9}, "int8"),  # bfloat16 was not measured: the rule decides
    ],
)
def test_measured_times_come_before_the_rule(seconds: dict[str, float], expected: str) -> None:
    measured = {Precision(name): each for name, each in seconds.items()}
    fast = [Precision.FLOAT32, Precision.BFLOAT16, Precision.INT8]
    assert choose_precision(manifest(0.9975), 0.3, fast, measured) == expected


def test_times_are_known_to_later_processes_by_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    one, other = (ModelBundle(tmp_path, manifest(0.9975), digest) for digest in ("1" * 64, "2" * 64))
    assert known_seconds(one) == {}
    speedups._remember(one, {Precision.INT8: 0.5, Precision.FLOAT32: 1.25})
    assert known_seconds(one) == {Precision.INT8: 0.5, Precision.FLOAT32: 1.25}
    assert known_seconds(other) == {}
    (damaged,) = tmp_path.glob("speeds/*.json")
    damaged.write_text("[1]")
    assert known_seconds(one) == {}
