"""Adds reference vectors from another system to a bundle that was verified against them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_bundle.base.similarity import Tolerance
from model_bundle.builders.assemble import record_golden
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import bundle_digest, list_files
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest
from model_bundle.bundle.specs import Rows
from model_bundle.compare.compare import Comparison
from model_bundle.runtime.golden import GOLDEN_TEXTS, ReferenceVectors

# Golden vectors cover every layer of every token: with more or longer texts they would outgrow the model.
_MAX_TEXTS = 4
_MAX_TOKENS = 64


def add_reference_vectors(
    bundle: ModelBundle,
    texts: Sequence[str],
    expected: Sequence[np.ndarray],
    comparison: Comparison,
    limits: Tolerance,
) -> ModelBundle:
    """Writes some reference vectors into a bundle that was just built and found equal to them.

    Their texts always become golden texts. The vectors are stored if loading can compare them: one per text,
    no scores, from a model without prompt, numeric inputs or batch dependence.

    Returns:
        The bundle with its new digest.
    """
    manifest, reading = bundle.manifest, comparison.reading
    chosen = _choose(comparison.num_tokens)
    golden = record_golden(bundle.path, manifest, [*(texts[index] for index in chosen), *GOLDEN_TEXTS])
    if comparison.rows is Rows.DOCUMENT and not reading.scores and _is_plain(manifest):
        old = ReferenceVectors(
            vectors=np.stack([expected[index] for index in chosen]).astype(np.float32),
            output=reading.output,
            pooling=reading.pooling,
            normalize=reading.normalize,
            tolerance=limits,
        )
        golden.with_reference(old).write(bundle.path)
    manifest = manifest.model_copy(update={"files": list_files(bundle.path)})
    (bundle.path / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return ModelBundle(bundle.path, manifest, bundle_digest(manifest), bundle.allowed_ops)


def _is_plain(manifest: BundleManifest) -> bool:
    """Whether a text's vector depends on the text alone."""
    takes_numbers = any(spec.role == "numeric" for spec in manifest.inputs.values())
    has_prompt = bool(manifest.prompts.get(manifest.default_prompt or ""))
    return not (takes_numbers or has_prompt or manifest.batch_dependent)


def _choose(num_tokens: Sequence[int]) -> list[int]:
    """Picks texts of different lengths among the short ones; the shortest if none is short."""
    order = sorted(range(len(num_tokens)), key=num_tokens.__getitem__)
    short = [index for index in order if num_tokens[index] <= _MAX_TOKENS] or order[:1]
    places = np.linspace(0, len(short) - 1, min(len(short), _MAX_TEXTS)).astype(int)
    return [short[place] for place in places]
