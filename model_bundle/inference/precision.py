"""Which precision a job computes in when it leaves the choice to the bundle's measured quality."""

from __future__ import annotations

from model_bundle.bundle.manifest import BundleManifest, Precision
from model_bundle.errors import SettingsError

AUTO = "auto"
# Percent of the rank correlation of similarities.
DEFAULT_MAX_LOSS = 0.3


def quality_loss(manifest: BundleManifest, precision: Precision) -> float | None:
    """Returns what a precision loses, in percent of the rank correlation of similarities with float32.

    0 for float32, None where it was not measured when the bundle was built.
    """
    if precision is Precision.FLOAT32:
        return 0.0
    measured = {} if manifest.int8 is None else manifest.int8.quality
    return 100 * (1 - measured[precision].rank_correlation) if precision in measured else None


def choose_precision(
    manifest: BundleManifest, max_quality_loss: float, *, has_fast_bfloat16: bool, has_fast_int8: bool
) -> Precision:
    """Returns the fastest precision whose measured loss is within the limit.

    int8 is faster than bfloat16 wherever the processor has both, and what has no measured quality is not
    chosen.

    Raises:
        SettingsError: the limit is no percentage.
    """
    if not 0 <= max_quality_loss <= 100:
        raise SettingsError(f"--max_quality_loss {max_quality_loss}: expected a percentage from 0 to 100.")
    fast = {Precision.INT8: has_fast_int8, Precision.BFLOAT16: has_fast_bfloat16}
    for precision, is_fast in fast.items():
        loss = quality_loss(manifest, precision)
        if is_fast and loss is not None and loss <= max_quality_loss:
            return precision
    return Precision.FLOAT32
