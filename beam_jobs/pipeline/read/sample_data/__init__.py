"""The sample text: what a job reads when no input is named.

240 short English documents on eight topics, 30 of each, in four JSON-lines shards. Every shard mixes all
topics. A line has three fields: ``id`` (stable, such as ``astronomy-007``), ``topic`` and ``text``.

The text was written for this project; LICENSE.txt beside it says under which terms it may be used.
"""

from __future__ import annotations

from pathlib import Path


def sample_pattern() -> str:
    """Returns the file pattern of the sample's shards: an absolute path ending in a glob, for ``--input``."""
    return str(Path(__file__).resolve().parent / "sample-*-of-*.jsonl")
