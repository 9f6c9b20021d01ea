"""What a job was asked to do: frozen values, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from beam_jobs.errors import UsageError


@dataclass(frozen=True)
class ReadOptions:
    """Where documents come from and how they are read.

    ``text_columns`` are joined by ``text_separator``; empty means the one obvious column (``text``, or the
    only one). ``limit`` stops after that many documents, in input order.
    """

    patterns: tuple[str, ...]
    text_columns: tuple[str, ...] = ()
    text_separator: str = "\n"
    id_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"
    whole_files: bool = False
    max_document_bytes: int = 10_000_000
    limit: int | None = None
    no_text: bool = False

    def __post_init__(self) -> None:
        """Refuses options that cannot be meant."""
        if not self.patterns:
            raise UsageError("No input: give --input at least one file or pattern.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, not {self.limit}; leave it out to read everything.")
        if self.max_document_bytes < 1:
            raise UsageError(f"--max_document_bytes must be at least 1, not {self.max_document_bytes}.")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"--delimiter must be one character, not {self.delimiter!r} (for a tab: $'\\t').")
        repeated = {name for name in self.keep_columns if self.keep_columns.count(name) > 1}
        if repeated:
            raise UsageError(f"--keep_columns names {sorted(repeated)} more than once.")
