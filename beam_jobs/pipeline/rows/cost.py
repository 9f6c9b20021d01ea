"""What an encoding step counts for those who watch."""

from __future__ import annotations

import numpy as np

from beam_jobs.base import metrics
from model_bundle.inference.results import EncodedTexts


def encoded_counts(encoded: EncodedTexts, milliseconds: int) -> dict[str, int]:
    """Returns what a buffer adds to each counter; texts that failed count for what the model computed alone.

    Args:
        encoded: what came of the buffer.
        milliseconds: that it took.
    """
    alive = np.ones(len(encoded.num_tokens), dtype=bool)
    alive[[failure.text_index for failure in encoded.failures]] = False
    lost = (encoded.num_tokens_untruncated - encoded.num_tokens)[alive]
    windows = 0 if encoded.num_windows is None else int(encoded.num_windows[alive].sum())
    return {
        metrics.DOCUMENTS_ENCODED: int(alive.sum()),
        metrics.TOKENS: int(encoded.num_fed_tokens[alive].sum()),
        metrics.PADDED_TOKENS: encoded.num_padded_tokens,
        metrics.DOCUMENTS_TRUNCATED: int((lost > 0).sum()),
        metrics.LOST_TOKENS: int(lost.sum()),
        metrics.WINDOWS: windows,
        metrics.MODEL_MILLISECONDS: milliseconds,
    }
