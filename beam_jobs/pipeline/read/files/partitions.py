"""Hive partitions: columns whose values are the names of folders, as in ``date=2024-01-01/a.parquet``."""

from __future__ import annotations

from urllib.parse import unquote

# What Hive and Spark write for null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str) -> dict[str, str | None]:
    """Returns the partitions of a file; of two with one name the inner one counts.

    All folders of the path count, those before the first wildcard, too, so that a pattern for one day has
    the same columns as one for all days.

    >>> partition_values("gs://b/t/date=2024-01-01/lang=de%20AT/part-0.parquet")
    {'date': '2024-01-01', 'lang': 'de AT'}
    """
    values: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name:
            values[unquote(name)] = None if value == _NULL else unquote(value)
    return values
