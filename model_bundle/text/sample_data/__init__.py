"""The sample text: what a job reads without ``--input``, and ``quantize`` without ``--texts``.

240 short English documents on eight topics, 30 of each, in four JSON Lines shards. Every shard mixes all
topics. A line has three fields: ``id`` (stable, such as ``astronomy-007``), ``topic`` and ``text``.

The text was written for this project; LICENSE.txt in this folder has its licence.
"""

from __future__ import annotations

import json
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
_SHARDS = "sample-*-of-*.jsonl"
# Documents of the longer texts: one paragraph, and more than any BERT's 512 tokens.
_JOINED = (4, 16)


def sample_pattern() -> str:
    """Returns the absolute file pattern of the sample's shards, for ``--input``."""
    return str(_FOLDER / _SHARDS)


def sample_texts(parts: int) -> list[str]:
    """Returns the documents, and longer texts of several of them, which reach the positions behind.

    Args:
        parts: a divisor of the number of documents. Texts at positions equal modulo ``parts`` share no
            document with the others.
    """
    files = sorted(_FOLDER.glob(_SHARDS))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    documents: list[str] = [json.loads(line)["text"] for line in lines]
    joined = [
        " ".join(documents[part::parts][start : start + size])
        for size in _JOINED
        for start in range(0, len(documents) // parts, size)
        for part in range(parts)
    ]
    return documents + joined
