"""The choice of ``--precision auto``."""

from __future__ import annotations

import pytest

from model_bundle.bundle.manifest import (
    BundleManifest,
    InputSpec,
    Int8Spec,
    OutputSpec,
    Precision,
    PrecisionQuality,
    SourceSpec,
    TokenizerSpec,
)
from model_bundle.errors import SettingsError
from model_bundle.inference.precision import choose_precision, quality_loss


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
    chosen = choose_precision(manifest(int8), limit, has_fast_bfloat16=has_bfloat16, has_fast_int8=has_int8)
    assert chosen == expected


def test_a_loss_is_a_percentage_of_rank_correlation() -> None:
    made = manifest(0.9975)
    assert quality_loss(made, Precision.INT8) == pytest.approx(0.25)
    assert quality_loss(made, Precision.FLOAT32) == 0
    assert quality_loss(manifest(None), Precision.BFLOAT16) is None


@pytest.mark.parametrize("limit", [-0.1, 101.0, float("nan")])
def test_a_limit_that_is_no_percentage_is_refused(limit: float) -> None:
    with pytest.raises(SettingsError, match="expected a percentage"):
        choose_precision(manifest(None), limit, has_fast_bfloat16=True, has_fast_int8=True)


def test_bundles_without_int8_keep_their_bytes() -> None:
    assert b"int8" not in manifest(None).to_bytes()
    made = manifest(0.9975)
    assert BundleManifest.from_bytes(made.to_bytes(), "here") == made
