"""One file per input format: how bytes become documents, dead letters and dead files.

Reading order: ``model`` (the words), ``opening`` and ``compression`` (stored bytes), ``encodings``
(characters), ``rows`` (one record to one outcome), then the formats ``text``, ``jsonl``, ``delimited`` and
``parquet``, and ``splits``, which puts them together. ``matching``, ``choose`` and ``suggest`` are for the
check before work.

Without an id column a document's id is the file's path behind the fixed part of its pattern, ``#``, and its
position, from 0: the byte offset in plain .txt and .jsonl, the row number in Parquet, the number of the
record in CSV, in compressed files and in encodings that cannot be cut into lines as bytes. Whole files are
named by the path alone. So the same data has the same ids anywhere, and lines that move get new ones.
"""
