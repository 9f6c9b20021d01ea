"""The parsers of the job commands; parsing needs neither Beam nor TensorFlow."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from beam_jobs.base.command import Parser
from beam_jobs.job.console.log_capture import LOG_FORMATS
from beam_jobs.job.flags.groups import add_input, add_limits, add_model, add_output, add_tuning, add_vectors
from beam_jobs.job.flags.modes import add_forecast, add_schedule
from model_bundle.base.flags import add_flag

_EPILOG = """\
Flags that are not listed here go to Apache Beam (--runner, --project, --region, --temp_location, ...). \
--runner DirectRunner means Beam's in-process Fn API runner.

Exit codes: 0 done, 2 wrong use, 3 more dead letters or dead files than allowed, 4 counts that do not add \
up, 1 anything else, 130 and 143 after SIGINT and SIGTERM."""
_EMBED_EXAMPLES = (
    "--output out",
    "--input 'news/*.csv' --text_column title,body --id_column id --keep_text",
    "--input 'news/*.csv' --text_column body --forecast sample",
)
_CLASSIFY_EXAMPLES = (
    "--bundle bundles/mood --input 'reviews/*.jsonl' --output moods",
    "--bundle bundles/topics --input 'news/*.csv' --text_column body --top_k 3",
    "--bundle bundles/reranker --input 'pairs/*.jsonl' --text_column question --text_pair_column passage",
)


def embed_parser() -> Parser:
    """Builds the parser of ``python -m beam_jobs.embed``."""
    about = "Computes contextual embeddings of very many texts and writes them as Parquet."
    return _parser("embed", about, _EMBED_EXAMPLES, _add_embed_model, _add_embed_output)


def classify_parser() -> Parser:
    """Builds the parser of ``python -m beam_jobs.classify``."""
    about = "Classifies very many texts, or their words, and writes labels and scores as Parquet."
    return _parser("classify", about, _CLASSIFY_EXAMPLES, _add_classify_model, _add_classify_output)


def _parser(
    task: str,
    about: str,
    examples: tuple[str, ...],
    add_task_model: Callable[[argparse._ArgumentGroup], None],
    add_task_output: Callable[[argparse._ArgumentGroup], None],
) -> Parser:
    parser = Parser(
        prog=f"python -m beam_jobs.{task}",
        description=about,
        epilog=_EPILOG,
        examples=examples,
        has_version=True,
    )
    parser.set_defaults(task=task)
    add_input(parser.add_argument_group("input"), has_pairs=task == "classify")
    add_task_model(parser.add_argument_group("model"))
    add_task_output(parser.add_argument_group("output"))
    add_limits(parser.add_argument_group("failure limits"))
    add_tuning(parser.add_argument_group("speed and memory"))
    add_forecast(parser.add_argument_group("forecast"))
    add_schedule(parser.add_argument_group("schedule"))
    runner = parser.add_argument_group("runner")
    add = partial(add_flag, runner)
    add(
        "--runner NAME",
        "Beam runner: DirectRunner (in this process, default), DataflowRunner, FlinkRunner, ...",
        default="DirectRunner",
    )
    add(
        "--log_format",
        "format of messages on stderr: text (default), or json, one object per line for log collectors",
        choices=LOG_FORMATS,
        default="text",
    )
    return parser


def _add_embed_model(group: argparse._ArgumentGroup) -> None:
    add_flag(
        group,
        "--bundle DIR|NAME",
        "model bundle: a folder, its URL or known name (bert-mini, the default, ships with the "
        "package; minilm is downloaded once); @sha256:... pins it",
    )
    add_vectors(group)
    add_model(group)


def _add_embed_output(group: argparse._ArgumentGroup) -> None:
    add_output(group, "embeddings")
    add_flag(
        group,
        "--vector_dtype",
        "type of the stored vectors (default: float32)",
        choices=["float32", "float16"],
        default="float32",
    )


def _add_classify_model(group: argparse._ArgumentGroup) -> None:
    add_flag(
        group,
        "--bundle DIR|NAME",
        "model bundle of a classifier: a folder, its URL or known name; @sha256:... pins it",
        required=True,
    )
    add_flag(
        group,
        "--rows",
        "with a bundle for pairs: one row per pair (default), or per window of a long second text",
        choices=["document", "window"],
        default="document",
    )
    add_model(group)


def _add_classify_output(group: argparse._ArgumentGroup) -> None:
    add_output(group, "classes")
    add = partial(add_flag, group)
    add("--top_k N", "write only the N best labels and their scores", parse=int)
    add(
        "--threshold S",
        "for multi-label models: minimum score of a label that applies (default: 0.5)",
        parse=float,
    )
    add("--keep_logits", "also write the raw model outputs, before softmax or sigmoid")
    add(
        "--gold_column A",
        "column with the true label, by name or position: it is kept, and manifest, summary and report have "
        "accuracy, precision and recall",
    )
