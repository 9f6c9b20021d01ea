"""``python -m beam_jobs.search RUN --query "…"``: the documents of a run nearest to a question."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from beam_jobs.base.tools import ToolParser, run_tool
from beam_jobs.errors import UsageError
from model_bundle.cli.allow_ops import add_allow_ops

if TYPE_CHECKING:
    from beam_jobs.search.searcher import Searcher

_ABOUT = """\
Embeds questions with the model and the settings that made a run, and prints the documents nearest to
each by cosine: one line a document, by its best window or word. Without --query, questions are read
from standard input, one a line; the model is loaded once."""


def search_parser() -> ToolParser:
    """Builds the parser of the command."""
    parser = ToolParser("search", _ABOUT)
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the root of runs: its latest")
    parser.add_argument(
        "--query", action="append", default=[], metavar="TEXT", help="a question; may be repeated"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="documents a question (default: 5)")
    parser.add_argument(
        "--where", metavar="SQL", help="only rows for which this holds, such as: topic = 'birds'"
    )
    parser.add_argument("--column", metavar="NAME", help="the vector column, where the run has several")
    parser.add_argument(
        "--bundle",
        metavar="DIR|NAME",
        help="where the run's model bundle is now (default: where the run found it); its digest is compared",
    )
    parser.add_argument("--prompt", metavar="NAME", help="a prompt of the bundle, instead of the run's own")
    parser.add_argument("--prompt_text", metavar="S", help="a prompt of your own, instead of the run's")
    add_allow_ops(parser)
    parser.add_argument(
        "--format", choices=["text", "json"], default="text", help="json: one object a question, on a line"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Searches and gives the exit code."""
    return run_tool(lambda: _search(sys.argv[1:] if argv is None else argv))


def _search(argv: Sequence[str]) -> int:
    flags = search_parser().parse_args(list(argv))
    if flags.top < 1:
        raise UsageError(f"--top must be at least 1, not {flags.top}.")
    if not all(query.strip() for query in flags.query):
        raise UsageError("--query is empty; give it a text.")
    # Reads the run, then loads TensorFlow, which takes seconds: only now, when the flags are understood.
    from beam_jobs.search.searcher import Searcher

    searcher = Searcher(flags)
    groups = iter([flags.query]) if flags.query else _from_stdin()
    return max((_answer(searcher, group, flags, sys.stdout) for group in groups), default=0)


def _from_stdin() -> Iterator[list[str]]:
    from beam_jobs.search.stdin_lines import waiting_lines

    if sys.stdin.isatty():
        print("A question a line; Ctrl-D ends.", file=sys.stderr)
    return waiting_lines(sys.stdin)


def _answer(searcher: Searcher, queries: list[str], flags: Namespace, stream: TextIO) -> int:
    """Answers some questions in one pass; one that cannot be asked does not end the others."""
    answers, errors = searcher.answer(queries)
    for answer in answers:
        print(answer.as_json() if flags.format == "json" else answer.as_text(), file=stream, flush=True)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return 2 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
