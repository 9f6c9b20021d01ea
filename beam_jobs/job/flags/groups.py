"""Flags in groups: input, model, output, limits, tuning."""

from __future__ import annotations

import argparse

from beam_jobs.job.flags.modes import add_long_texts, add_rows


def add_vectors(group: argparse._ArgumentGroup) -> None:
    """Adds the flags that select the vectors to write."""
    group.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="L",
        help="layer to read: a number for BERT (-1 is the last), a name for ELMo; repeat for more columns",
    )
    group.add_argument(
        "--pooling",
        choices=["mean", "max", "first", "last", "pooler"],
        help="how token states become one vector (default: that of the bundle)",
    )
    add_rows(group)


def add_input(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for files and columns."""
    group.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="files or patterns, local or gs://: .txt .jsonl .csv .tsv .parquet, the text formats also as "
        ".gz .bz2 .zst; quote patterns (default: the sample text that ships with the package)",
    )
    group.add_argument(
        "--text_column",
        default="",
        metavar="A[,B]",
        help="column(s) with the text; several are joined (default: 'text', or the only column)",
    )
    group.add_argument(
        "--text_separator",
        default="\n",
        metavar="S",
        help="separator between joined columns (default: a line break)",
    )
    group.add_argument(
        "--id_column",
        metavar="A",
        help="column with the document id (default: built from file name and position)",
    )
    group.add_argument(
        "--keep_columns",
        default="",
        metavar="A,B",
        help="input columns to copy to the output, with their types",
    )
    group.add_argument(
        "--rename_columns",
        default="",
        metavar="OLD=NEW[,...]",
        help="names of kept columns in the output, where they differ from the input",
    )
    group.add_argument(
        "--delimiter", metavar="C", help="field separator of .csv files (default: a comma; a tab for .tsv)"
    )
    group.add_argument(
        "--column_names",
        default="",
        metavar="A,B",
        help="column names of .csv and .tsv files without a header row",
    )
    group.add_argument(
        "--no_csv_quotes",
        action="store_true",
        help="treat quotes in .csv and .tsv files as ordinary characters",
    )
    group.add_argument(
        "--comment_prefix", metavar="S", help="skip lines of .csv and .tsv files that begin with S"
    )
    group.add_argument(
        "--encoding", default="utf-8", metavar="E", help="encoding of text files (default: utf-8)"
    )
    group.add_argument("--whole_files", action="store_true", help="treat each .txt file as one document")
    group.add_argument(
        "--on_missing_text",
        choices=["blank", "dead_letter", "fail"],
        default="blank",
        help="how to handle documents without text: count as blank (default), dead_letter, or fail the run",
    )
    group.add_argument(
        "--max_document_bytes",
        type=int,
        default=10_000_000,
        metavar="N",
        help="size limit; larger documents become dead letters (default: 10 MB)",
    )
    group.add_argument("--limit", type=int, metavar="N", help="process only the first N documents")


def add_model(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for what the model is given, and its precision."""
    group.add_argument(
        "--max_tokens",
        type=int,
        metavar="N",
        help="maximum tokens per model input, special tokens included (default: that of the bundle)",
    )
    add_long_texts(group)
    group.add_argument("--prompt", metavar="NAME", help="prompt of the bundle to put before every text")
    group.add_argument("--prompt_text", metavar="S", help="text to put before every text")
    group.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="precision of matrix products; bfloat16 is faster on processors with AMX or AVX512-BF16 "
        "(default: float32)",
    )


def add_output(group: argparse._ArgumentGroup, folder: str) -> None:
    """Adds the flags for the run and its files; ``folder`` is the default root."""
    group.add_argument(
        "--output",
        default=folder,
        metavar="DIR",
        help="root folder of runs, local or gs:// (default: %(default)s)",
    )
    group.add_argument(
        "--run_id",
        metavar="ID",
        help="name of the run folder; an unfinished run of this name is resumed (default: generated)",
    )
    group.add_argument(
        "--previous",
        metavar="RUN|ROOT|latest",
        help="reuse rows of a finished run for texts it contains; latest: the last run below --output",
    )
    group.add_argument(
        "--emit",
        choices=["all", "changes"],
        default="all",
        help="with --previous: write all rows (default), or only new and changed ones",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="resume the unfinished run below --output, or the one named by --run_id",
    )
    group.add_argument(
        "--keep_text", action="store_true", help="write the text next to its vector or scores, for search"
    )
    group.add_argument(
        "--no_text", action="store_true", help="keep input text out of outputs, dead letters, logs and errors"
    )
    group.add_argument(
        "--no_report", action="store_true", help="do not write report.html, the page about the run"
    )
    group.add_argument(
        "--max_shard_bytes",
        type=int,
        default=256_000_000,
        metavar="N",
        help="size at which an output file is closed (default: 256 MB)",
    )
    group.add_argument(
        "--checkpoint_seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="maximum time an output file stays open; limits what a crash loses (default: 60)",
    )


def add_limits(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for how much may fail."""
    group.add_argument(
        "--max_dead_fraction",
        type=float,
        default=0.0,
        metavar="F",
        help="fraction of documents that may become dead letters, not counting blank ones (default: 0)",
    )
    group.add_argument(
        "--max_dead_files",
        type=int,
        default=0,
        metavar="N",
        help="number of files that may be unreadable or cut short (default: 0)",
    )
    group.add_argument("--fail_on_blank", action="store_true", help="count blank texts as dead letters, too")
    group.add_argument("--allow_empty_input", action="store_true", help="accept input without any documents")


def add_tuning(group: argparse._ArgumentGroup) -> None:
    """Adds the flags for speed and memory."""
    group.add_argument(
        "--max_batch_tokens",
        type=int,
        metavar="N",
        help="padded tokens per batch: longest text x number of texts (default: fastest on the worker, "
        "measured once and cached)",
    )
    group.add_argument(
        "--dedupe", action="store_true", help="compute equal texts once; worthwhile if many are equal"
    )
    group.add_argument(
        "--buffer_documents",
        type=int,
        default=4096,
        metavar="N",
        help="number of documents sorted by length together (default: 4096)",
    )
    group.add_argument(
        "--num_threads",
        type=int,
        metavar="N",
        help="number of batches run in parallel, one thread each (default: one per core)",
    )
    group.add_argument(
        "--isolate_model",
        action="store_true",
        help="run the model in a child process of the worker; a text that crashes it becomes a dead letter",
    )
