"""Resolves flags to a checked plan, so that every user error is found before any work."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from beam_jobs.base.config import FailureLimits, ReadOptions, WriteOptions
from beam_jobs.errors import FinishedError, UsageError
from beam_jobs.job.console.console import Console
from beam_jobs.job.flags.options import FLAGS_OF_FILES, check_no_flags_of_files, gold_name, read_choices
from beam_jobs.job.own_output import refuse_own_output
from beam_jobs.pipeline.build import JobPlan
from beam_jobs.pipeline.incremental.plan import plan_reuse
from beam_jobs.pipeline.incremental.previous_run import difference
from beam_jobs.pipeline.read.inspect import InputSummary, inspect_input
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.description import describe_run, new_run
from beam_jobs.store import filesystem
from beam_jobs.store.filesystem import absolute_path
from beam_jobs.store.manifest import RunManifest
from beam_jobs.store.run_folder import check_output, find_manifest, record_needs, run_to_resume
from model_bundle.base.flags import choices_of
from model_bundle.bundle.resolve import DEFAULT_BUNDLE
from model_bundle.runtime.long_texts import Combine, LongTexts, OnLong
from model_bundle.text.boundaries import WindowsAt

# With the bundle and the model's settings, what tells two runs of one name apart.
_IDENTITY_FLAGS = (
    *("task", "input", "date", "limit", "keep_text", "no_text", "emit", "encoding", "text_separator"),
    *FLAGS_OF_FILES,
)
# The settings of the same names.
_FLAGS_OF_MODEL = (
    *(
        "max_tokens",
        "prompt",
        "prompt_text",
        "precision",
        "max_quality_loss",
        "no_text",
        "max_batch_tokens",
        "buffer_documents",
    ),
    *("dedupe", "num_threads", "isolate_model", "max_unknown_fraction"),
)


def plan_job(flags: argparse.Namespace, options: Any, *, in_process: bool) -> JobPlan:
    """Resolves flags against the bundle, the input and the output.

    Raises:
        UsageError, ModelBundleError: a flag, the input, the bundle or the output cannot be used.
    """
    limits = choices_of(FailureLimits, flags)
    write = write_options(flags, in_process=in_process)
    read, summary, encode = plan_input(flags, write.output)
    schema = schema_of(encode, summary.kept_schema)  # rejects kept columns whose names the output uses
    num_kept = len(summary.kept_schema)
    reuse = plan_reuse(flags, write, encode, schema, num_kept, by_join=not in_process)
    check_folder(write, encode, flags)
    if reuse is not None and reuse.needs:
        record_needs(write, reuse.needs)
    description = describe_run(encode, limits, dict(sorted(vars(flags).items())))
    if reuse is not None:
        description = replace(description, previous=reuse.previous, emit=reuse.emit)
    redistribute = not in_process or _num_workers(options) > 1
    return JobPlan(read, summary, encode, write, description, redistribute, reuse)


def plan_input(
    flags: argparse.Namespace, output: str | None = None
) -> tuple[ReadOptions, InputSummary, EncodeSettings]:
    """Resolves the input and the encoding settings without writing anything.

    Args:
        flags: of the command.
        output: root of the runs, which are no input; see ``refuse_own_output``.

    Raises:
        UsageError, ModelBundleError: a flag, the input or the bundle cannot be used.
    """
    read, keep_text = read_options(flags)
    check_path = None if output is None else refuse_own_output(output)
    if flags.bundle is None:  # the default needs no numeric columns, so input errors can come first
        summary = inspect_input(read, check_path)
        return read, summary, encode_settings(flags, keep_text=keep_text)
    encode = encode_settings(flags, keep_text=keep_text)
    _check_pairs(encode, read)
    read = replace(read, numeric_columns=encode.numeric_columns)
    return read, inspect_input(read, check_path), encode


def _check_pairs(encode: EncodeSettings, read: ReadOptions) -> None:
    """Rejects one text for a bundle that takes two, and two for one that takes one."""
    if encode.takes_pairs and not read.text_pair_columns:
        raise UsageError(
            f"The bundle {encode.bundle_name} scores two texts together, but the input names one: give "
            "--input, and the columns of both texts with --text_column and --text_pair_column."
        )
    if read.text_pair_columns and not encode.takes_pairs:
        raise UsageError(
            f"--text_pair_column {','.join(read.text_pair_columns)}: the bundle {encode.bundle_name} takes "
            "one text at a time. Leave it out, join the columns with --text_column A,B, or use a bundle that "
            "was built with --task pairs."
        )


def read_options(flags: argparse.Namespace) -> tuple[ReadOptions, bool]:
    """Returns the read options and whether to keep text; without ``--input``, the sample with its text."""
    if flags.input:
        return read_choices(flags, tuple(absolute_path(pattern) for pattern in flags.input)), flags.keep_text
    check_no_flags_of_files(flags)
    from model_bundle.text.sample_data import sample_pattern

    sample = ReadOptions(
        (sample_pattern(),),
        ("text",),
        id_column="id",
        keep_columns=("topic",),
        max_document_bytes=flags.max_document_bytes,
        limit=flags.limit,
        no_text=flags.no_text,
    )
    return sample, not flags.no_text


def encode_settings(flags: argparse.Namespace, *, keep_text: bool) -> EncodeSettings:
    """Resolves model, outputs and batching against the bundle."""
    common = {name: getattr(flags, name) for name in _FLAGS_OF_MODEL} | {
        "keep_text": keep_text,
        "buffer_seconds": flags.checkpoint_seconds / 2,
        "long_texts": long_texts(flags),
        "allow_ops": flags.allow_ops,
    }
    if flags.task == "classify":
        return EncodeSettings.resolve_classes(
            flags.bundle,
            top_k=flags.top_k,
            threshold=flags.threshold,
            keep_logits=flags.keep_logits,
            gold=gold_name(flags),
            rows=flags.rows,
            **common,
        )
    return EncodeSettings.resolve(
        flags.bundle or DEFAULT_BUNDLE,
        layers=tuple(flags.layer),
        pooling=flags.pooling,
        rows=flags.rows,
        word_pieces=flags.word_pieces,
        vector_dtype=flags.vector_dtype,
        **common,
    )


def long_texts(flags: argparse.Namespace) -> LongTexts:
    """Returns how to handle long texts; None for flags that were not given."""
    # classify has none of these: the scores of windows are not combined
    combine, at, language = (getattr(flags, n, None) for n in ("combine", "windows_at", "window_language"))
    return LongTexts(
        None if flags.on_long is None else OnLong(flags.on_long),
        flags.window_overlap,
        None if combine is None else Combine(combine),
        None if at is None else WindowsAt(at),
        language,
    )


def print_allowed(settings: EncodeSettings, console: Console) -> None:
    """Prints, before the model is loaded, what it may do beyond computing."""
    if settings.allowed_ops:
        reaching = ", ".join(settings.allowed_ops)
        console.print("warning", f"allowed by --allow_ops or a pin: the model may use {reaching}", "WARNING")


def write_options(flags: argparse.Namespace, *, in_process: bool) -> WriteOptions:
    """Returns the write options; a generated run id sorts by time."""
    return new_run(
        flags.output,
        run_to_resume(absolute_path(flags.output), flags.run_id) if flags.resume else flags.run_id,
        max_shard_bytes=flags.max_shard_bytes,
        checkpoint_seconds=flags.checkpoint_seconds,
        fail_job=not in_process,
        claim_in_job=not in_process,
        report=not flags.no_report,
    )


def check_folder(write: WriteOptions, encode: EncodeSettings, flags: argparse.Namespace) -> None:
    """Claims the run's folder for this job, see ``run_folder.check_output``.

    Raises:
        FinishedError: it holds a finished run of the same input, date, bundle and settings.
        UsageError: it holds another finished run, or is not writable.
    """
    try:
        check_output(write)
    except FinishedError as error:
        root = filesystem.join(write.output, write.run_id)
        found = find_manifest(root)
        differ = [] if found is None else _differences(found, encode, flags)
        if differ:
            raise UsageError(
                f"--run_id {write.run_id}: {root} holds a finished run of something else: "
                f"{'; '.join(differ)}. Choose another id."
            ) from error
        raise


def _differences(found: RunManifest, encode: EncodeSettings, flags: argparse.Namespace) -> list[str]:
    """Returns how a finished run differs from what is asked for now."""
    asked = vars(flags)
    differ = [
        f"--{name} was {found.config[name]!r} and is {asked.get(name)!r}"
        for name in _IDENTITY_FLAGS
        if name in found.config and found.config[name] != asked.get(name)
    ]
    settings = difference(found, encode.bundle_digest, encode.digest, asked)
    return [*differ, settings] if settings else differ


def _num_workers(options: Any) -> int:
    from apache_beam.options.pipeline_options import DirectOptions

    return int(options.view_as(DirectOptions).direct_num_workers or 0)
