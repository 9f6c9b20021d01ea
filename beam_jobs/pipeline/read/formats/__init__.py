"""Input formats, one module each, which turn bytes into documents, dead letters and dead files.

Without an id column, the id of a document is the path of its file after the fixed part of the pattern, ``#``,
and its position, from 0: the byte offset in plain .txt and .jsonl, the row number in Parquet, the record
number in CSV, compressed files and encodings that cannot be split as bytes. The id of a whole file is its
path. So the same data has the same ids anywhere, and lines that move get new ones.
"""
