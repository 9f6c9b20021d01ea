"""Which precision a job computes in when it leaves the choice to the bundle's measured quality."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from model_bundle.base.machine import has_fast_bfloat16, has_fast_int7, has_fast_int8
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import ClassQuality, Precision
from model_bundle.errors import SettingsError

AUTO = "auto"
_BY_SPEED = (Precision.INT8_BFLOAT16, Precision.INT8, Precision.BFLOAT16, Precision.INT7, Precision.FLOAT32)
# Percent of the rank correlation of similarities.
DEFAULT_MAX_LOSS = 0.3


def quality_loss(manifest: BundleManifest, precision: Precision) -> float | None:
    """Returns what a precision loses against float32, in percent of the rank correlation of similarities.

    For a classifier, the percentage of labels that change. 0 for float32, None where it was not measured when
    the bundle was built.
    """
    if precision is Precision.FLOAT32:
        return 0.0
    measured = {} if manifest.int8 is None else manifest.int8.quality
    found = measured.get(precision)
    if found is None:
        return None
    return 100 * (1 - (found.same_labels if isinstance(found, ClassQuality) else found.rank_correlation))


def fast_precisions() -> frozenset[Precision]:
    """Returns the precisions that this machine's processor has instructions for."""
    has = {
        Precision.FLOAT32: True,
        Precision.BFLOAT16: has_fast_bfloat16(),
        Precision.INT8: has_fast_int8(),
        Precision.INT8_BFLOAT16: has_fast_int8() and has_fast_bfloat16(),
        # Where int8 is exact, weights of 7 bits lose more and gain nothing.
        Precision.INT7: has_fast_int7() and not has_fast_int8(),
    }
    return frozenset(precision for precision, is_fast in has.items() if is_fast)


def choose_precision(
    manifest: BundleManifest,
    max_quality_loss: float,
    fast: Collection[Precision],
    seconds: Mapping[Precision, float],
) -> Precision:
    """Returns the fastest precision whose measured loss is within the limit.

    What has no measured quality is not chosen.

    Args:
        manifest: the bundle's.
        max_quality_loss: percent, see ``quality_loss``.
        fast: those that the processor has instructions for.
        seconds: of the same batch in each precision, where they were measured on such a machine. Without one
            for each that comes into question, int8_bfloat16 counts as faster than int8, that as faster than
            bfloat16, and that as faster than int7: true of large models, while a small one may gain nothing.

    Raises:
        SettingsError: the limit is no percentage.
    """
    if not 0 <= max_quality_loss <= 100:
        raise SettingsError(f"--max_quality_loss {max_quality_loss}: expected a percentage from 0 to 100.")
    if manifest.is_int8_only:  # whatever it lost, there is no other
        mixed = Precision.INT8_BFLOAT16
        return mixed if mixed in fast and manifest.signature_of(mixed) else Precision.INT8
    losses = {precision: quality_loss(manifest, precision) for precision in _BY_SPEED if precision in fast}
    good = [p for p, loss in losses.items() if loss is not None and loss <= max_quality_loss]
    return min(good, key=seconds.__getitem__) if set(good) <= seconds.keys() else good[0]
