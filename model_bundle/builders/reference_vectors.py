"""Makes vectors of old the golden ones of a bundle that gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_bundle.base.similarity import Limits
from model_bundle.builders.assemble import record_golden
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import bundle_digest, list_files
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest, Rows
from model_bundle.compare.compare import Comparison
from model_bundle.runtime.golden import GOLDEN_TEXTS
from model_bundle.runtime.reference_vectors import OldGolden

# Golden vectors are those of every layer of every token: a few short texts, or they outgrow the model.
_MAX_TEXTS = 4
_MAX_TOKENS = 64


def adopt_old_vectors(
    bundle: ModelBundle,
    texts: Sequence[str],
    expected: Sequence[np.ndarray],
    comparison: Comparison,
    limits: Limits,
) -> ModelBundle:
    """Writes some of the old vectors into a bundle that was just built, and held to be the same.

    The texts become golden ones in any case. The vectors do where a load can compare them: one a text, not
    scores, from a model that knows no prompt, takes no numbers and does not mind its neighbours.

    Returns:
        The bundle with its new digest.
    """
    manifest, reading = bundle.manifest, comparison.reading
    chosen = _choose(comparison.num_tokens)
    golden = record_golden(bundle.path, manifest, [*(texts[index] for index in chosen), *GOLDEN_TEXTS])
    if comparison.rows is Rows.DOCUMENT and not reading.scores and _is_plain(manifest):
        old = OldGolden(
            vectors=np.stack([expected[index] for index in chosen]).astype(np.float32),
            output=reading.output,
            pooling=reading.pooling,
            normalize=reading.normalize,
            limits=limits,
        )
        golden.with_old(old).write(bundle.path)
    manifest = manifest.model_copy(update={"files": list_files(bundle.path)})
    (bundle.path / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return ModelBundle(bundle.path, manifest, bundle_digest(manifest), bundle.allowed_ops)


def _is_plain(manifest: BundleManifest) -> bool:
    """Whether a text's vector depends on nothing but the text."""
    takes_numbers = any(spec.role == "numeric" for spec in manifest.inputs.values())
    has_prompt = bool(manifest.prompts.get(manifest.default_prompt or ""))
    return not (takes_numbers or has_prompt or manifest.batch_dependent)


def _choose(num_tokens: Sequence[int]) -> list[int]:
    """Picks texts of all lengths that are short, or the shortest."""
    order = sorted(range(len(num_tokens)), key=num_tokens.__getitem__)
    short = [index for index in order if num_tokens[index] <= _MAX_TOKENS] or order[:1]
    places = np.linspace(0, len(short) - 1, min(len(short), _MAX_TEXTS)).astype(int)
    return [short[place] for place in places]
