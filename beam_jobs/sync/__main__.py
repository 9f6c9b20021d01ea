"""``python -m beam_jobs.sync RUN --to URL``: brings a table of vectors in a database to a run."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from beam_jobs.base.command import Parser
from beam_jobs.errors import UsageError
from model_bundle.base.command import run_command
from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show

if TYPE_CHECKING:
    from beam_jobs.sync.progress import Progress
    from beam_jobs.sync.store import Store

DISTANCES = ("cosine", "dot", "euclidean", "manhattan")
_ABOUT = """\
Brings a table of a database to the rows of a run: the first time all rows, later only documents that were
added, changed or removed. The table keeps a mark of the run that it holds, in the table beam_jobs_sync beside
it. A sync that was interrupted is continued by the same command; a second call writes nothing.

  postgresql://USER@HOST/DATABASE   PostgreSQL with pgvector (pip install 'beam-embedding-jobs[postgres]')
  lancedb:FOLDER                    LanceDB, a local folder (pip install 'beam-embedding-jobs[lancedb]')
  qdrant:FOLDER, qdrant+https://KEY@HOST:PORT   Qdrant (pip install 'beam-embedding-jobs[qdrant]')"""
_EXAMPLES = (
    "out --to lancedb:vectors.lance",
    "out --to postgresql://writer@db.example.com/search --table news",
)


def sync_parser() -> Parser:
    """Builds the parser of the command."""
    parser = Parser(
        prog="python -m beam_jobs.sync",
        description=_ABOUT,
        epilog="Exit codes: 0 done, 1 differences found by --check or an error, 2 wrong use.",
        examples=_EXAMPLES,
        has_version=True,
    )
    add = partial(add_flag, parser)
    add("run RUN", "folder of a run, or root of runs (means its latest run)")
    add("--to URL", "the database", required=True)
    add("--table NAME", "table to write, in PostgreSQL also SCHEMA.NAME (default: embeddings)")
    add(
        "--distance",
        "how PostgreSQL's index or Qdrant compares vectors (default: cosine)",
        choices=DISTANCES,
        default="cosine",
    )
    add("--everything", "write all rows again, whatever the mark says; repairs a table that others changed")
    add("--check", "write nothing; compare counts and a sample of vectors with the run")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns the exit code."""
    return run_command(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    flags = sync_parser().parse_args(list(argv))
    if flags.check and flags.everything:
        raise UsageError("--check writes nothing, so --everything has no effect. Leave one of them out.")
    # Import what reads Parquet, only now when the flags are understood.
    from beam_jobs.store.chain import find_collection
    from beam_jobs.store.filesystem import absolute_path
    from beam_jobs.sync.apply import layout_of, sync
    from beam_jobs.sync.check import check
    from beam_jobs.sync.progress import Progress

    run = find_collection(absolute_path(flags.run))
    layout = layout_of(run)
    progress = Progress(sys.stderr)
    store = open_store(flags, progress)
    try:
        if not flags.check:
            line = sync(run, layout, store, progress, anew=flags.everything)
            progress.end()
            show(line, sys.stdout)
            return 0
        found = check(run, layout, store)
    finally:
        progress.end()
        store.close()
    for line in found:
        show(f"differs: {line}", sys.stdout)
    if not found:
        show(f"{store.where} holds the run {run.manifest.run_id}.", sys.stdout)
    return 1 if found else 0


def open_store(flags: Namespace, progress: Progress) -> Store:
    """Opens the table that the flags name.

    Raises:
        UsageError: the address is of no known kind, its package is missing, or see ``Store``.
    """
    from beam_jobs.sync.mark import MARKS

    table, writes = flags.table or "embeddings", not flags.check
    if table.rpartition(".")[2] == MARKS:
        raise UsageError(f"--table {table}: the marks of all tables are there. Give another name.")
    store: Store
    scheme, _, rest = flags.to.partition(":")
    if scheme in ("postgresql", "postgres") and rest.startswith("//"):
        kind = _module("postgres", "psycopg").PostgresStore
        store = kind(flags.to, table, flags.distance, progress.say, writes=writes)
        return store
    if scheme == "lancedb" and rest:
        store = _module("lance", "lancedb").LanceStore(rest, table, writes=writes)
        return store
    if scheme in ("qdrant", "qdrant+http", "qdrant+https") and rest:
        place = rest if scheme == "qdrant" else f"{scheme.removeprefix('qdrant+')}:{rest}"
        store = _module("qdrant", "qdrant_client").QdrantStore(place, table, flags.distance, writes=writes)
        return store
    raise UsageError(
        f"--to {scheme}:…: expected postgresql://USER@HOST/DATABASE, lancedb:FOLDER, qdrant:FOLDER or "
        "qdrant+https://HOST:PORT. Nothing was written."
    )


def _module(name: str, package: str) -> Any:
    try:
        return import_module(f"beam_jobs.sync.stores.{name}")
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        extra = {"psycopg": "postgres", "qdrant_client": "qdrant"}.get(package, package)
        raise UsageError(
            f"The package {package} is not installed. Install it: pip install 'beam-embedding-jobs[{extra}]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
