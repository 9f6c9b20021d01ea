"""The sample input that a job reads without ``--input``.

240 short English documents on eight topics, 30 of each, in four JSON Lines shards. Every shard mixes all
topics. A line has three fields: ``id`` (stable, such as ``astronomy-007``), ``topic`` and ``text``.

The text was written for this project; LICENSE.txt in this folder has its licence.
"""

from __future__ import annotations

from pathlib import Path


def sample_pattern() -> str:
    """Returns the absolute file pattern of the sample's shards, for ``--input``."""
    return str(Path(__file__).resolve().parent / "sample-*-of-*.jsonl")
