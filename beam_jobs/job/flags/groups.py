"""Flags in groups: input, model, output, limits, tuning."""

from __future__ import annotations

import argparse
from functools import partial

from beam_jobs.job.flags.modes import add_long_texts, add_rows
from model_bundle.base.flags import add_flag
from model_bundle.cli.command import add_allow_ops


def add_vectors(group: argparse._ArgumentGroup) -> None:
    """Adds the flags that select the vectors to write."""
    add = partial(add_flag, group)
    add(
        "--layer L",
        "layer to read: a number for BERT (-1 is the last), a name for ELMo; repeat for more columns",
        repeat=True,
    )
    add(
        "--pooling P",
        "how token states become one vector: mean, max, first, last, mean_sqrt_len, weighted_mean or pooler "
        "(default: that of the bundle)",
        choices=["mean", "max", "first", "last", "mean_sqrt_len", "weighted_mean", "pooler"],
    )
    add_rows(group)


def add_input(group: argparse._ArgumentGroup, *, has_pairs: bool = False) -> None:
    """Adds the flags for files and columns; ``has_pairs``: also those of two texts together."""
    add = partial(add_flag, group)
    add(
        "--input PATTERN",
        "files, patterns or folders, local, gs://, s3://, az:// or hf://, and https:// files: .txt .jsonl "
        ".json .csv .tsv .parquet .avro .orc, the text formats also as .gz .bz2 .zst; quote patterns "
        "(default: the sample text that ships with the package)",
        nargs="+",
        default=[],
    )
    add(
        "--input_format",
        "format of all input files, whatever their names are (default: by the ending of each name)",
        choices=["text", "jsonl", "json", "csv", "tsv", "parquet", "avro", "orc"],
    )
    add(
        "--text_column A[,B]",
        "column(s) with the text, a.b for a nested one; several are joined (default: 'text', or the only "
        "column)",
        default="",
    )
    if has_pairs:
        add(
            "--text_pair_column A[,B]",
            "column(s) with the second text of each pair, for bundles that score two texts together",
            default="",
        )
    add("--text_separator S", "separator between joined columns (default: a line break)", default="\n")
    add("--id_column A", "column with the document id (default: built from file name and position)")
    add(
        "--keep_columns A,B",
        "input columns to copy to the output, with their types; also nested ones, and folders such as A=1",
        default="",
    )
    add(
        "--column_types A=T[,...]",
        "types of kept columns: string, int64, float64 or bool (default: those of the input)",
        default="",
    )
    add(
        "--rename_columns OLD=NEW[,...]",
        "names of kept columns in the output, where they differ from the input",
        default="",
    )
    add("--delimiter C", "field separator of .csv files (default: a comma; a tab for .tsv)")
    add("--column_names A,B", "column names of .csv and .tsv files without a header row", default="")
    add("--no_csv_quotes", "treat quotes in .csv and .tsv files as ordinary characters")
    add("--comment_prefix S", "skip lines of .csv and .tsv files that begin with S")
    add("--encoding E", "encoding of text files (default: utf-8)", default="utf-8")
    add("--whole_files", "treat each .txt file as one document")
    add(
        "--on_missing_text",
        "how to handle documents without text: count as blank (default), dead_letter, or fail the run",
        choices=["blank", "dead_letter", "fail"],
        default="blank",
    )
    add(
        "--max_document_bytes N",
        "size limit; larger documents become dead letters (default: 10 MB)",
        default=10_000_000,
    )
    add("--limit N", "process only the first N documents", parse=int)


def add_model(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for what the model is given, and its precision."""
    add = partial(add_flag, group)
    add(
        "--max_tokens N",
        "maximum tokens per model input, special tokens included (default: that of the bundle)",
        parse=int,
    )
    add_long_texts(group)
    add("--prompt NAME", "prompt of the bundle to put before every text")
    add("--prompt_text S", "text to put before every text")
    add(
        "--precision P",
        "precision of matrix products: float32 (default); bfloat16, faster on processors with AMX or "
        "AVX512-BF16; of bundles that were quantized int8 on those with VNNI or AMX, int8_bfloat16 on those "
        "with both, int7 on those with AVX2; auto: the fastest within --max_quality_loss",
        choices=["float32", "bfloat16", "int8", "int8_bfloat16", "int7", "auto"],
        default="float32",
    )
    add(
        "--max_quality_loss P",
        "with --precision auto: percent of the rank correlation of similarities, or of labels, that may "
        "be lost, as measured when the bundle was quantized (default: %(default)s)",
        default=0.3,
    )
    add_allow_ops(group)


def add_output(group: argparse._ArgumentGroup, folder: str) -> None:
    """Adds the flags for the run and its files; ``folder`` is the default root."""
    add = partial(add_flag, group)
    add(
        "--output DIR",
        "root folder of runs, local, gs://, s3:// or az:// (default: %(default)s)",
        default=folder,
    )
    add(
        "--run_id ID",
        "name of the run folder; an unfinished run of this name is resumed (default: generated)",
    )
    add(
        "--previous RUN|ROOT|latest",
        "reuse rows of a finished run for texts it contains; latest: the last run below --output",
    )
    add(
        "--emit",
        "with --previous: write all rows (default), or only new and changed ones",
        choices=["all", "changes"],
        default="all",
    )
    add("--resume", "resume the unfinished run below --output, or the one named by --run_id")
    add("--keep_text", "write the text next to its vector or scores, for search")
    add("--no_text", "keep input text out of outputs, dead letters, logs and errors")
    add("--no_report", "do not write report.html, the page about the run")
    add(
        "--max_shard_bytes N", "size at which an output file is closed (default: 256 MB)", default=256_000_000
    )
    add(
        "--checkpoint_seconds S",
        "maximum time an output file stays open; limits what a crash loses (default: 60)",
        default=60.0,
    )


def add_limits(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for how much may fail."""
    add = partial(add_flag, group)
    add(
        "--max_dead_fraction F",
        "fraction of documents that may become dead letters, not counting blank ones (default: 0)",
        default=0.0,
    )
    add("--max_dead_files N", "number of files that may be unreadable or cut short (default: 0)", default=0)
    add(
        "--stop_after_dead N|F",
        "end the run early, without a manifest, after more than N dead letters, or more than a fraction F of "
        "the documents read, counted from 1,000 documents on; per worker process (default: never)",
        parse=stop_limit,
    )
    add(
        "--max_unknown_fraction F",
        "make dead letters of texts with a larger fraction of unknown tokens, not counting special tokens "
        "and the prompt (default: no limit)",
        parse=float,
    )
    add("--fail_on_blank", "count blank texts as dead letters, too")
    add("--allow_empty_input", "accept input without any documents")


def stop_limit(text: str) -> float:
    """Parses a number of dead letters, or a fraction of the documents.

    >>> stop_limit("100"), stop_limit("0.05")
    (100, 0.05)
    """
    return int(text) if text.isdecimal() else float(text)


def add_tuning(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for speed and memory."""
    add = partial(add_flag, group)
    add(
        "--max_batch_tokens N",
        "padded tokens per batch: longest text x number of texts (default: fastest on the worker, "
        "measured once and cached)",
        parse=int,
    )
    add("--dedupe", "compute equal texts once; worthwhile if many are equal")
    add("--buffer_documents N", "number of documents sorted by length together (default: 4096)", default=4096)
    add(
        "--num_threads N",
        "number of batches run in parallel, one thread each (default: one per core)",
        parse=int,
    )
    add(
        "--isolate_model",
        "run the model in a child process of the worker; a text that crashes it becomes a dead letter",
    )
