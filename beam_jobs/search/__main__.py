"""``python -m beam_jobs.search RUN --query "…"``: the documents of a run nearest to a question."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TextIO

from beam_jobs.base.command import Parser
from beam_jobs.errors import UsageError
from model_bundle.base.command import run_command
from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show
from model_bundle.cli.command import add_allow_ops

if TYPE_CHECKING:
    from beam_jobs.search.searcher import Searcher

# Queries that share one pass over the run; each costs memory for its scores.
_MAX_LINES = 256
_RERANK_TOP = 50
_ABOUT = """\
Embeds queries with the model and settings of a run, and prints the documents nearest to each by the model's
similarity (cosine unless it names another): one line per document, ranked by its best window or word.
Without --query, queries are read from standard input, one per line; the model is loaded once."""
_EXAMPLES = ('out --query "planets of other suns" --top 2', "out --format json < queries.txt")


def search_parser() -> Parser:
    """Builds the parser of the command."""
    parser = Parser(
        prog="python -m beam_jobs.search", description=_ABOUT, examples=_EXAMPLES, has_version=True
    )
    add = partial(add_flag, parser)
    add("run RUN", "folder of a run, or root of runs (means its latest run)")
    add("--query TEXT", "a query; repeat the flag for several", repeat=True)
    add("--top N", "documents per query (default: 5)", default=5)
    add(
        "--rerank BUNDLE",
        "bundle of a reranker (build bert --task pairs), which scores the query together with the texts of "
        "the nearest documents; orders them by it. Needs a run with --keep_text",
    )
    add("--rerank_top N", "with --rerank: documents to score per query (default: 50)", parse=int)
    add("--where SQL", "search only rows that satisfy a condition, such as: topic = 'birds'")
    add("--only_this_run", "of a run of changes (--emit changes), search these rows alone")
    add("--column NAME", "vector column, if the run has several")
    add(
        "--bundle DIR|NAME",
        "current place of the run's model bundle (default: as in the run); its digest is checked",
    )
    add_allow_ops(parser)
    add("--prompt NAME", "prompt of the bundle (default: query if it has that, else the run's)")
    add("--prompt_text S", "text to use as prompt instead")
    add(
        "--format",
        "output format; json prints one object per query and line (default: text)",
        choices=["text", "json"],
        default="text",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Searches and returns the exit code."""
    return run_command(lambda: _search(sys.argv[1:] if argv is None else argv))


def _search(argv: Sequence[str]) -> int:
    flags = search_parser().parse_args(list(argv))
    if flags.top < 1:
        raise UsageError(f"--top must be at least 1, not {flags.top}.")
    if flags.rerank_top is not None and flags.rerank is None:
        raise UsageError("--rerank_top needs --rerank, the bundle that scores the documents.")
    flags.rerank_top = _RERANK_TOP if flags.rerank_top is None else flags.rerank_top
    if flags.rerank is not None and flags.rerank_top < flags.top:
        raise UsageError(
            f"--rerank_top must be at least --top {flags.top}, not {flags.rerank_top}: the best are chosen "
            "from so many documents."
        )
    if not all(query.strip() for query in flags.query):
        raise UsageError("--query is empty. Pass the text to search for.")
    # Reads the run, then loads TensorFlow, which takes seconds: only now, when the flags are understood.
    from beam_jobs.search.searcher import Searcher

    searcher = Searcher(flags)
    groups = iter([flags.query]) if flags.query else _from_stdin()
    return max((_answer(searcher, group, flags, sys.stdout) for group in groups), default=0)


def _from_stdin() -> Iterator[list[str]]:
    if sys.stdin.isatty():
        print("Enter one query per line; Ctrl-D ends.", file=sys.stderr)
    return waiting_lines(sys.stdin)


def waiting_lines(stream: TextIO, most: int = _MAX_LINES) -> Iterator[list[str]]:
    """Yields the lines available by now, at least one, without blank ones, until the stream ends.

    A person's lines come one by one, those of a file many at once.

    Args:
        stream: to read from.
        most: lines at once.
    """
    lines: SimpleQueue[str | None] = SimpleQueue()

    def feed() -> None:
        try:
            for line in stream:
                if line.strip():
                    lines.put(line.strip())
        finally:
            lines.put(None)

    Thread(target=feed, name="stdin", daemon=True).start()
    line = lines.get()
    while line is not None:
        group = [line]
        line = _next(lines)
        while line and len(group) < most:
            group.append(line)
            line = _next(lines)
        yield group
        # An empty string says that nothing is waiting.
        line = lines.get() if line == "" else line


def _next(lines: SimpleQueue[str | None]) -> str | None:
    try:
        return lines.get_nowait()
    except Empty:
        return ""


def _answer(searcher: Searcher, queries: list[str], flags: Namespace, stream: TextIO) -> int:
    """Answers queries in one pass; one that fails does not end the others."""
    answers, errors = searcher.answer(queries)
    for answer in answers:
        show(answer.as_json() if flags.format == "json" else answer.as_text(), stream)
    for error in errors:
        show(f"error: {error}", sys.stderr)
    return 2 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
