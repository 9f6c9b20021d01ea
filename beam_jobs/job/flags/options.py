"""Flags to options as far as neither a bundle, nor the input, nor Beam is needed."""

from __future__ import annotations

import argparse
import codecs
import math

from beam_jobs.base.config import FailureLimits, ReadOptions, WriteOptions, check_model_choices
from beam_jobs.errors import UsageError
from beam_jobs.job.flags.dates import resolve_dates
from model_bundle.base.flags import choices_of

# Rejected without --input: the sample's format is known.
FLAGS_OF_FILES = (
    "text_column",
    "text_pair_column",
    "id_column",
    "keep_columns",
    "gold_column",
    "rename_columns",
    "column_types",
    "input_format",
    "delimiter",
    "column_names",
    "no_csv_quotes",
    "comment_prefix",
    "whole_files",
)


def check_alone(flags: argparse.Namespace) -> None:
    """Rejects what no bundle, input or output could make valid, in a second and without any of them.

    Fills in the dates of ``flags``.

    Raises:
        UsageError: a value, or a contradiction between flags.
    """
    resolve_dates(flags)
    check_model_choices(flags)
    choices_of(FailureLimits, flags)
    choices_of(WriteOptions, flags, run_id=flags.run_id or "generated", attempt_id="")
    if flags.input:
        read_choices(flags, tuple(flags.input))
    else:
        check_no_flags_of_files(flags)
    try:
        codecs.lookup(flags.encoding)
    except LookupError as error:
        raise UsageError(f"--encoding {flags.encoding}: Python knows no encoding of that name.") from error
    if flags.emit == "changes" and flags.previous is None:
        raise UsageError("--emit changes needs --previous, the run that the changes are relative to.")
    if flags.bundle_store is not None and flags.bundle_in_image:
        raise UsageError(
            "--bundle_store uploads the bundle, --bundle_in_image expects it in the image: give only one."
        )
    threshold = getattr(flags, "threshold", None)
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"--threshold {threshold}: expected a score from 0 to 1, which a label must reach.")


def read_choices(flags: argparse.Namespace, patterns: tuple[str, ...]) -> ReadOptions:
    """Returns the read options of these patterns.

    Raises:
        UsageError: a value, or a contradiction between flags.
    """
    return choices_of(
        ReadOptions,
        flags,
        patterns=patterns,
        text_columns=split(flags.text_column),
        text_pair_columns=split(getattr(flags, "text_pair_column", "")),
        keep_columns=_with_gold(split(flags.keep_columns), getattr(flags, "gold_column", None)),
        rename_columns=pairs(flags.rename_columns, "--rename_columns OLD=NEW"),
        column_types=pairs(flags.column_types, "--column_types NAME=TYPE"),
        column_names=split(flags.column_names),
        csv_quotes=not flags.no_csv_quotes,
    )


def _with_gold(keep_columns: tuple[str, ...], gold: str | None) -> tuple[str, ...]:
    return keep_columns if gold is None or gold in keep_columns else (*keep_columns, gold)


def gold_name(flags: argparse.Namespace) -> str | None:
    """Returns the name that the column of true labels has in the output."""
    renamed = dict(pairs(flags.rename_columns, "--rename_columns OLD=NEW"))
    gold: str | None = flags.gold_column
    return gold if gold is None else renamed.get(gold, gold)


def check_no_flags_of_files(flags: argparse.Namespace) -> None:
    """Rejects flags for files where the sample text is read."""
    named = [name for name in FLAGS_OF_FILES if getattr(flags, name, None)]
    if named:
        raise UsageError(f"--{named[0]} needs --input; without it the sample text is read.")


def split(text: str) -> tuple[str, ...]:
    """Splits ``a,b``.

    >>> split("title, body"), split("")
    (('title', 'body'), ())
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def pairs(text: str, form: str) -> tuple[tuple[str, str], ...]:
    """Splits ``a=b,c=d``.

    >>> pairs("a=b, c=d", "--rename_columns OLD=NEW")
    (('a', 'b'), ('c', 'd'))

    Raises:
        UsageError: a part is not of this form.
    """
    found = [part.partition("=") for part in split(text)]
    for one, _, other in found:
        if not one.strip() or not other.strip():
            raise UsageError(f"Expected {form}, separated by commas, not {text!r}.")
    return tuple((one.strip(), other.strip()) for one, _, other in found)
