"""One file per input format: how bytes become documents, dead letters and dead files.

Reading order: ``model`` (the words), ``opening`` and ``compression`` (stored bytes), ``encodings``
(characters), ``rows`` (one record to one outcome), then the formats ``text``, ``jsonl``, ``delimited`` and
``parquet``, and ``spans``, which puts them together. ``matching``, ``choose`` and ``suggest`` are for the
check before work.
"""
