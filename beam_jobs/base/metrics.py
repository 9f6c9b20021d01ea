"""Names of the Beam counters; each ends with its unit.

A runner may run a piece of work twice and count it twice, so counters are for monitoring only. The result of
a run is in its manifest.
"""

from __future__ import annotations

NAMESPACE = "beam_jobs"

BYTES_READ = "input_bytes"
DOCUMENTS_READ = "read_documents"
DOCUMENTS_ENCODED = "encoded_documents"
DOCUMENTS_REUSED = "reused_documents"
DOCUMENTS_DEAD = "dead_documents"
TOKENS = "encoded_tokens"
PADDED_TOKENS = "padded_tokens"
DOCUMENTS_TRUNCATED = "truncated_documents"
LOST_TOKENS = "lost_tokens"
WINDOWS = "encoded_windows"
MODEL_MILLISECONDS = "model_milliseconds"
SLOW_PRECISION_WORKERS = "slow_precision_workers"

ALL = (
    *(BYTES_READ, DOCUMENTS_READ, DOCUMENTS_ENCODED, DOCUMENTS_REUSED, DOCUMENTS_DEAD, TOKENS, PADDED_TOKENS),
    *(DOCUMENTS_TRUNCATED, LOST_TOKENS, WINDOWS, MODEL_MILLISECONDS, SLOW_PRECISION_WORKERS),
)
