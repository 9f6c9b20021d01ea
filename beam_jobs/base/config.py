"""Options of a job: frozen dataclasses, validated on construction."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from beam_jobs.errors import UsageError
from model_bundle.base.objects.clients import SCHEMES

OnMissingText = Literal["blank", "dead_letter", "fail"]
InputFormat = Literal["text", "jsonl", "json", "csv", "tsv", "parquet", "avro", "orc"]
# What --column_types can state.
STATED_TYPES = ("string", "int64", "float64", "bool")
# Where a run can be written, besides local folders.
OUTPUT_SCHEMES = ("gs", *SCHEMES)
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ReadOptions:
    """Where documents come from and how they are read.

    ``input_format`` None means that the files' names tell their format. ``text_columns`` are joined by
    ``text_separator``; empty means ``text``, or the only column. ``text_pair_columns`` are joined to the
    second text of each document, where two are scored together.
    ``numeric_columns`` are numeric model inputs, in the order of ``EncodeSettings.numeric_columns``.
    ``column_names`` names the columns of CSV files without a header row. ``csv_quotes`` False treats quotes
    as ordinary characters, for files that do not quote fields; lines that begin with ``comment_prefix``
    are skipped. ``rename_columns`` are pairs of a kept column and its name in the output, ``column_types``
    of a kept column and one of ``STATED_TYPES``. ``on_missing_text`` is for documents whose text columns are
    all absent, null or empty. ``limit`` stops after that many documents, in input order.
    """

    patterns: tuple[str, ...]
    text_columns: tuple[str, ...] = ()
    text_pair_columns: tuple[str, ...] = ()
    text_separator: str = "\n"
    id_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    rename_columns: tuple[tuple[str, str], ...] = ()
    column_types: tuple[tuple[str, str], ...] = ()
    numeric_columns: tuple[str, ...] = ()
    delimiter: str | None = None
    column_names: tuple[str, ...] = ()
    csv_quotes: bool = True
    comment_prefix: str | None = None
    encoding: str = "utf-8"
    whole_files: bool = False
    on_missing_text: OnMissingText = "blank"
    max_document_bytes: int = 10_000_000
    limit: int | None = None
    no_text: bool = False
    input_format: InputFormat | None = None

    def __post_init__(self) -> None:
        """Rejects invalid option values."""
        if not self.patterns:
            raise UsageError("No input: give --input at least one file or pattern.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(
                f"--limit must be at least 1, not {self.limit}; leave it out to read everything."
            )
        if self.max_document_bytes < 1:
            raise UsageError(f"--max_document_bytes must be at least 1, not {self.max_document_bytes}.")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(
                f"--delimiter must be one character, not {self.delimiter!r} (for a tab: $'\\t')."
            )
        if self.delimiter is not None and self.delimiter in '"\r\n':
            raise UsageError(
                f"--delimiter {self.delimiter!r}: quotes and line ends already have a meaning in CSV."
            )
        if self.text_separator in ("\\t", "\\n"):
            raise UsageError(
                f"--text_separator {self.text_separator!r} is a backslash and a letter. In the shell, write "
                f"$'{self.text_separator}' for the character."
            )
        if self.comment_prefix == "":
            raise UsageError("--comment_prefix is empty, so every line would be a comment. Leave it out.")
        self._check_columns()

    def _check_columns(self) -> None:
        for flag in ("keep_columns", "text_columns", "text_pair_columns", "column_names"):
            names = getattr(self, flag)
            repeated = sorted(name for name, number in Counter(names).items() if number > 1)
            if repeated:
                shown = flag.removesuffix("s") if flag.startswith("text") else flag
                raise UsageError(f"--{shown} names {repeated} more than once.")
        twice = sorted({*self.text_columns} & {*self.text_pair_columns})
        if twice:
            raise UsageError(
                f"--text_column and --text_pair_column both name {twice}: the two texts of a pair are "
                "different columns."
            )
        self._check_kept("rename_columns", self.rename_columns)
        self._check_kept("column_types", self.column_types)
        for name, kind in self.column_types:
            if kind not in STATED_TYPES:
                raise UsageError(f"--column_types {name}={kind}: expected one of {', '.join(STATED_TYPES)}.")
        self._check_output_names()

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the kept columns in the output, in the order of ``keep_columns``."""
        renamed = dict(self.rename_columns)
        return tuple(renamed.get(name, name) for name in self.keep_columns)

    def _check_kept(self, flag: str, pairs: tuple[tuple[str, str], ...]) -> None:
        named = Counter(name for name, _ in pairs)
        kept = set(self.keep_columns)
        for name in (name for name, number in named.items() if number > 1 or name not in kept):
            raise UsageError(f"--{flag} {name}=...: expected each of the --keep_columns at most once.")

    def _check_output_names(self) -> None:
        known: dict[str, str] = {}
        numbers = Counter(self.output_names)
        for name in self.output_names:
            other = known.setdefault(name.lower(), name)
            if other != name or numbers[name] > 1:
                raise UsageError(
                    f"--keep_columns: the output would have the columns {other!r} and {name!r}, which most "
                    "tools cannot tell apart. Rename one with --rename_columns OLD=NEW."
                )


@dataclass(frozen=True)
class WriteOptions:
    """Where a run is written and when its files are closed.

    ``output`` holds one folder per run. A shard is closed at ``max_shard_bytes`` or when it has been open for
    ``checkpoint_seconds``. ``attempt_id`` distinguishes two jobs with the same ``run_id``. ``fail_job``
    raises in the pipeline when too many documents are dead letters, for runners whose launcher does not
    wait. ``claim_in_job``: the job claims its folder when it runs and not when it is submitted, because a
    runner may reject it. ``report`` writes a page about the run next to its manifest.
    """

    output: str
    run_id: str
    attempt_id: str
    max_shard_bytes: int = 256_000_000
    checkpoint_seconds: float = 60.0
    fail_job: bool = True
    report: bool = True
    claim_in_job: bool = False

    def __post_init__(self) -> None:
        """Rejects invalid option values."""
        scheme, is_url, _ = self.output.partition("://")
        if is_url and scheme not in OUTPUT_SCHEMES:
            known = ", ".join(f"{known}://" for known in OUTPUT_SCHEMES)
            raise UsageError(
                f"--output {self.output}: a run is written to a local folder or to a URL with one of {known}."
            )
        if is_url and "?" in self.output:
            raise UsageError(
                f"--output {self.output.partition('?')[0]}: write the URL without a query, which may be a "
                "secret and would be stored in the manifest. Set credentials as docs/how-to/storage.md says."
            )
        if self.max_shard_bytes < 1:
            raise UsageError(f"--max_shard_bytes must be at least 1, not {self.max_shard_bytes}.")
        if not self.checkpoint_seconds > 0:
            raise UsageError(f"--checkpoint_seconds must be above 0, not {self.checkpoint_seconds}.")
        if not RUN_ID.fullmatch(self.run_id):
            raise UsageError(
                f"--run_id {self.run_id!r}: expected at most 128 letters, digits, '.', '_' and '-', "
                "starting with a letter or digit; it names a folder."
            )


@dataclass(frozen=True)
class FailureLimits:
    """How much may fail before the run fails.

    ``max_dead_fraction`` of the documents read may be dead letters; blank texts count only with
    ``fail_on_blank``. ``max_dead_files`` files may be unreadable before their end. More dead letters than
    ``stop_after_dead`` end the job at once: a number, or below 1 a fraction of the documents read.
    """

    max_dead_fraction: float = 0.0
    max_dead_files: int = 0
    fail_on_blank: bool = False
    allow_empty_input: bool = False
    stop_after_dead: float | None = None

    def __post_init__(self) -> None:
        """Rejects invalid option values."""
        if not 0 <= self.max_dead_fraction <= 1:
            raise UsageError(
                f"--max_dead_fraction is a fraction from 0 to 1, not {self.max_dead_fraction}; "
                "0.01 allows one document in a hundred."
            )
        if self.stop_after_dead is not None and not self.stop_after_dead > 0:
            raise UsageError(
                "--stop_after_dead must be a number from 1 or a fraction below it, not "
                f"{self.stop_after_dead}."
            )
        if self.max_dead_files < 0:
            raise UsageError(f"--max_dead_files must be at least 0, not {self.max_dead_files}.")


def check_model_choices(choices: Any) -> None:
    """Rejects values of the flags for the model that no bundle could make valid.

    Args:
        choices: flags, or the settings made from them.

    Raises:
        UsageError: names the flag.
    """
    if choices.keep_text and choices.no_text:
        raise UsageError("--keep_text writes the input text, --no_text forbids it: leave one of them out.")
    unknown = choices.max_unknown_fraction
    if unknown is not None and not 0 <= unknown < 1:
        raise UsageError(
            f"--max_unknown_fraction must be from 0 to below 1, not {unknown}: 0.5 makes dead letters of "
            "texts that are mostly unknown."
        )
    for name in ("max_batch_tokens", "buffer_documents", "num_threads"):
        value = getattr(choices, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}.")
