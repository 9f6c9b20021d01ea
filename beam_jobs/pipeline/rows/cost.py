"""The cost of a batch of rows: schema metadata that is summed on writing, and progress counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from beam_jobs.base import metrics
from beam_jobs.base.unknown_tokens import MOSTLY

if TYPE_CHECKING:
    pass

from model_bundle.inference.results import EncodedTexts

# The cost of a batch of rows is in the metadata of its schema: it travels with the rows and is summed when
# they are written, so it counts exactly what was kept.
WEIGHTS_KEY = "weights"
# Model load time; not summed, the maximum counts.
READY_KEY = "ready_milliseconds"
# Documents with rows copied from an earlier run; the other keys count what was computed.
REUSED_KEY = "num_reused"
# Documents whose text was computed for another document.
REPEATED_KEY = "num_repeated"
# Where rows are windows: those of documents whose text is new that were computed, and that were copied.
ENCODED_WINDOWS_KEY = "num_encoded_windows"
REUSED_WINDOWS_KEY = "num_reused_windows"
COST_KEYS = (
    "num_documents",
    REUSED_KEY,
    REPEATED_KEY,
    "num_tokens",
    "num_truncated",
    "num_padded_tokens",
    "num_lost_tokens",
    "num_lost_words",
    "num_unknown_tokens",
    "num_mostly_unknown",
    "num_half_blank",
    "num_windowed",
    "num_windows",
    ENCODED_WINDOWS_KEY,
    REUSED_WINDOWS_KEY,
    "model_milliseconds",
)


def encoded_counts(encoded: EncodedTexts, milliseconds: int) -> dict[str, int]:
    """Returns what a buffer adds to each counter; failed texts count only as computed cells.

    Args:
        encoded: results of the buffer.
        milliseconds: their computing time.
    """
    alive = np.ones(len(encoded.num_tokens), dtype=bool)
    alive[[failure.text_index for failure in encoded.failures]] = False
    lost = (encoded.num_tokens_untruncated - encoded.num_tokens)[alive]
    windows = 0 if encoded.num_windows is None else int(encoded.num_windows[alive].sum())
    if encoded.windows is not None:
        windows -= int(alive[encoded.row_texts[encoded.known_windows]].sum())
    return {
        metrics.DOCUMENTS_ENCODED: int(alive.sum()),
        metrics.TOKENS: int(encoded.num_fed_tokens[alive].sum()),
        metrics.PADDED_TOKENS: encoded.num_padded_tokens,
        metrics.DOCUMENTS_TRUNCATED: int((lost > 0).sum()),
        metrics.LOST_TOKENS: int(lost.sum()),
        metrics.WINDOWS: windows,
        metrics.MODEL_MILLISECONDS: milliseconds,
    }


def with_cost(
    rows: pa.RecordBatch,
    encoded: EncodedTexts,
    alive: np.ndarray,
    milliseconds: int,
    model: dict[str, str],
    num_half_blank: int = 0,
) -> pa.RecordBatch:
    """Adds to a batch its cost and the model's ``WEIGHTS_KEY`` (kind of its weights) and ``READY_KEY``.

    ``num_half_blank``: pairs of which one text is blank.
    """
    lost = (encoded.num_tokens_untruncated - encoded.num_tokens)[alive]
    windows = np.zeros(0, np.int64) if encoded.num_windows is None else encoded.num_windows[alive]
    lost_words = 0  # words past the token limit have no row
    if encoded.num_words_untruncated is not None:
        lost_words = int((encoded.num_words_untruncated - encoded.num_words)[alive].sum())
    is_kept = alive[encoded.row_texts]
    reused = 0 if encoded.windows is None else int(is_kept[encoded.known_windows].sum())
    unknown = encoded.unknown
    mostly = np.zeros(0) if unknown is None else unknown.fractions[alive]
    cost = {
        "num_documents": int(alive.sum()),
        "num_tokens": int(encoded.num_fed_tokens[alive].sum()),
        "num_truncated": int((lost > 0).sum()),
        "num_padded_tokens": encoded.num_padded_tokens,
        "num_lost_tokens": int(lost.sum()),
        "num_lost_words": lost_words,
        "num_unknown_tokens": 0 if unknown is None else int(unknown.num_fed[alive].sum()),
        "num_mostly_unknown": int((mostly > MOSTLY).sum()),
        "num_half_blank": num_half_blank,
        "num_windowed": int((windows > 1).sum()),
        "num_windows": int(windows[windows > 1].sum()),
        ENCODED_WINDOWS_KEY: 0 if encoded.windows is None else int(is_kept.sum()) - reused,
        REUSED_WINDOWS_KEY: reused,
        "model_milliseconds": milliseconds,
    }
    return with_counts(rows, {**cost, **model})


def with_counts(rows: pa.RecordBatch, counts: Mapping[str, int | str]) -> pa.RecordBatch:
    """Adds counts to the metadata of a batch, see ``COST_KEYS``."""
    metadata = {key.encode(): str(count).encode() for key, count in counts.items()}
    return rows.replace_schema_metadata(dict(rows.schema.metadata or {}) | metadata)
