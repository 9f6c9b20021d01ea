"""The flags of a job; parsing them needs neither Beam nor TensorFlow."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from beam_jobs.base.command import Parser
from beam_jobs.job.console.log_capture import LOG_FORMATS
from beam_jobs.job.flags.forecast_flags import add_forecast
from beam_jobs.job.flags.modes import add_long_texts, add_rows
from beam_jobs.job.flags.schedule_flags import add_schedule
from model_bundle.cli.allow_ops import add_allow_ops

_EPILOG = """\
Flags that are not listed here go to Apache Beam (--runner, --project, --region, --temp_location, ...).
--runner DirectRunner means Beam's in-process Fn API runner. Exit codes: 0 done, 2 wrong use,
3 more dead letters or dead files than allowed, 4 counts that do not add up, 1 anything else.
"""


def embed_parser() -> argparse.ArgumentParser:
    """Builds the parser of ``python -m beam_jobs.embed``."""
    about = "Computes contextual embeddings of very many texts and writes them as Parquet."
    return _parser("embed", about, _add_embed_model, _add_embed_output)


def classify_parser() -> argparse.ArgumentParser:
    """Builds the parser of ``python -m beam_jobs.classify``."""
    about = "Judges very many texts, or their words, and writes labels and scores as Parquet."
    return _parser("classify", about, _add_classify_model, _add_classify_output)


def _parser(
    task: str,
    about: str,
    add_model: Callable[[argparse._ArgumentGroup], None],
    add_output: Callable[[argparse._ArgumentGroup], None],
) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"python -m beam_jobs.{task}",
        description=about,
        epilog=_EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(task=task)
    _add_input(parser.add_argument_group("input"))
    add_model(parser.add_argument_group("model"))
    add_output(parser.add_argument_group("output"))
    _add_limits(parser.add_argument_group("what may fail"))
    _add_tuning(parser.add_argument_group("speed and memory"))
    add_forecast(parser.add_argument_group("forecast"))
    add_schedule(parser.add_argument_group("schedule"))
    runner = parser.add_argument_group("runner")
    runner.add_argument(
        "--runner",
        default="DirectRunner",
        metavar="NAME",
        help="where to run: DirectRunner (in this process, default), DataflowRunner, FlinkRunner, ...",
    )
    runner.add_argument(
        "--log_format",
        choices=LOG_FORMATS,
        default="text",
        help="what is said on stderr: lines (default), or a JSON object a line, for schedulers",
    )
    return parser


def _add_embed_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bundle",
        metavar="DIR|NAME",
        help="model bundle: a folder, or a known name (bert-mini, the default, ships with the package; "
        "minilm is fetched once); @sha256:... pins it",
    )
    _add_vectors(group)
    _add_model(group)


def _add_embed_output(group: argparse._ArgumentGroup) -> None:
    _add_output(group, "embeddings")
    group.add_argument(
        "--vector_dtype",
        choices=["float32", "float16"],
        default="float32",
        help="as stored (default: float32)",
    )


def _add_classify_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bundle",
        required=True,
        metavar="DIR|NAME",
        help="model bundle of a classifier: a folder, or a known name; @sha256:... pins it",
    )
    _add_model(group)


def _add_classify_output(group: argparse._ArgumentGroup) -> None:
    _add_output(group, "classes")
    group.add_argument(
        "--top_k", type=int, metavar="N", help="write the N best labels with their scores, not every score"
    )
    group.add_argument(
        "--threshold",
        type=float,
        metavar="S",
        help="where several labels may hold: those with at least this score do (default: 0.5)",
    )
    group.add_argument(
        "--keep_logits", action="store_true", help="write what the model gave, too, before it became scores"
    )


def _add_vectors(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="L",
        help="layer to read: a number for BERT (-1 is the last), a name for ELMo; repeat for a column each",
    )
    group.add_argument(
        "--pooling",
        choices=["mean", "max", "first", "last", "pooler"],
        help="token states to one vector (default: the bundle's)",
    )
    add_rows(group)


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="files or patterns, local or gs://: .txt .jsonl .csv .tsv .parquet, the text ones also .gz .bz2 "
        ".zst; quote patterns. Default: the sample text that comes with the package",
    )
    group.add_argument(
        "--text_column",
        default="",
        metavar="A[,B]",
        help="column(s) with the text; several are joined. Default: 'text', or the only one",
    )
    group.add_argument(
        "--text_separator", default="\n", metavar="S", help="between joined columns (default: a line break)"
    )
    group.add_argument(
        "--id_column", metavar="A", help="column with the document's id. Default: made from file and position"
    )
    group.add_argument(
        "--keep_columns", default="", metavar="A,B", help="columns to take along, with their types"
    )
    group.add_argument("--delimiter", metavar="C", help="of .csv files (default: a comma; a tab for .tsv)")
    group.add_argument(
        "--column_names", default="", metavar="A,B", help="of .csv and .tsv files that have no header row"
    )
    group.add_argument(
        "--no_csv_quotes", action="store_true", help="quotes are ordinary characters in .csv and .tsv files"
    )
    group.add_argument("--encoding", default="utf-8", metavar="E", help="of text files (default: utf-8)")
    group.add_argument("--whole_files", action="store_true", help="each .txt file is one document")
    group.add_argument(
        "--max_document_bytes",
        type=int,
        default=10_000_000,
        metavar="N",
        help="longer documents become dead letters (default: 10 MB)",
    )
    group.add_argument("--limit", type=int, metavar="N", help="stop after the first N documents: a first try")


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max_tokens",
        type=int,
        metavar="N",
        help="tokens that the model gets at once, special ones included",
    )
    add_long_texts(group)
    group.add_argument("--prompt", metavar="NAME", help="one of the bundle's prompts, put before every text")
    group.add_argument("--prompt_text", metavar="S", help="a prompt of your own")
    group.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the matrix products. bfloat16 is faster where the processor has it (AMX, AVX512-BF16)",
    )
    add_allow_ops(group)


def _add_output(group: argparse._ArgumentGroup, folder: str) -> None:
    group.add_argument(
        "--output",
        default=folder,
        metavar="DIR",
        help="root of the runs, local or gs:// (default: %(default)s)",
    )
    group.add_argument(
        "--run_id", metavar="ID", help="the run's folder. An unfinished run of this id goes on"
    )
    group.add_argument(
        "--previous",
        metavar="RUN|ROOT|latest",
        help="take over the rows of texts that this finished run has; latest: the last one below --output",
    )
    group.add_argument(
        "--emit",
        choices=["all", "changes"],
        default="all",
        help="with --previous: a complete run (default), or only rows that are new or changed",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run below --output that is not finished; with --run_id, with that one",
    )
    group.add_argument(
        "--keep_text", action="store_true", help="write the text beside what was computed, for search"
    )
    group.add_argument(
        "--no_text", action="store_true", help="no input text in outputs, dead letters, logs or errors"
    )
    group.add_argument(
        "--no_report", action="store_true", help="do not write report.html, a page about the run"
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
        help="longest time until an output file is closed: bounds what a crash loses (default: 60)",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max_dead_fraction",
        type=float,
        default=0.0,
        metavar="F",
        help="fraction of documents that may get no row, blank ones apart (default: 0)",
    )
    group.add_argument(
        "--max_dead_files", type=int, default=0, metavar="N", help="files that may end early (default: 0)"
    )
    group.add_argument("--fail_on_blank", action="store_true", help="blank texts count as dead, too")
    group.add_argument("--allow_empty_input", action="store_true", help="no documents at all is fine")


def _add_tuning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max_batch_tokens",
        type=int,
        metavar="N",
        help="padded cells in a batch, longest text x texts (default: what is fastest on the worker, "
        "measured once and kept in its cache)",
    )
    group.add_argument(
        "--dedupe", action="store_true", help="compute equal texts once; pays where many are equal"
    )
    group.add_argument(
        "--buffer_documents",
        type=int,
        default=4096,
        metavar="N",
        help="documents sorted by length together (default: 4096)",
    )
    group.add_argument(
        "--num_threads",
        type=int,
        metavar="N",
        help="batches that run side by side, a thread each (default: one for every core)",
    )
    group.add_argument(
        "--isolate_model",
        action="store_true",
        help="keep the model in a child of the worker: a text that crashes it becomes a dead letter",
    )
