"""Helpers of the tests of whole jobs: flags in, a run out."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA
from beam_jobs.store.manifest import RunManifest

PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Run:
    """What a job left behind and said."""

    exit_code: int
    root: Path
    stdout: str
    stderr: str

    @cached_property
    def manifest(self) -> RunManifest:
        """The manifest of the run, or of its failure."""
        (path,) = [*self.root.glob("manifest*.json")]
        return RunManifest.from_bytes(path.read_bytes(), str(path))

    @cached_property
    def rows(self) -> pa.Table:
        """All rows, shard by shard."""
        kind = "classes" if (self.root / "classes").exists() else "embeddings"
        return pa.concat_tables(pq.read_table(path) for path in self.files(kind))

    @cached_property
    def dead(self) -> list[dict[str, Any]]:
        """All dead letters, shard by shard."""
        tables = [pq.read_table(path) for path in self.files("dead_letters")]
        letters = pa.concat_tables([DEAD_LETTER_SCHEMA.empty_table(), *tables])
        return list(letters.to_pylist())

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """float32[dim] by document id."""
        return dict(zip(self.column("doc_id"), vectors_of(self.rows), strict=True))

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Reason by document id of the dead letters."""
        return {letter["doc_id"]: letter["reason"] for letter in self.dead}

    def column(self, name: str) -> list[Any]:
        """Returns a column of the rows."""
        values: list[Any] = self.rows.column(name).to_pylist()
        return values

    def files(self, kind: str) -> list[Path]:
        """Lists the shards of a kind."""
        return sorted((self.root / kind).glob("*.parquet"))

    @property
    def is_finished(self) -> bool:
        """Whether there is a manifest."""
        return (self.root / "manifest.json").exists()


def run_job(output: Path | str, bundle: Path, *flags: Any, run_id: str = "run") -> Run:
    """Runs the embed command in this process."""
    from beam_jobs.embed import main

    return _run(main, output, bundle, flags, run_id)


def run_classify(output: Path | str, bundle: Path, *flags: Any, run_id: str = "run") -> Run:
    """Runs the classify command in this process."""
    from beam_jobs.classify import main

    return _run(main, output, bundle, flags, run_id)


def _run(
    main: Callable[[list[str]], int], output: Path | str, bundle: Path, flags: Sequence[Any], run_id: str
) -> Run:
    argv = ["--bundle", str(bundle), "--output", str(output), "--run_id", run_id, *map(str, flags)]
    with capture() as (stdout, stderr):
        exit_code = main(argv)
    return Run(exit_code, Path(output, run_id), stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def capture() -> Any:
    """Collects what is printed and logged."""
    stdout, stderr = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(stderr)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            yield stdout, stderr
    finally:
        logging.getLogger().removeHandler(handler)


def start_job(
    output: Path, bundle: Path, *flags: Any, cwd: Path = PROJECT, **env: str
) -> subprocess.Popen[str]:
    """Starts the embed command as a process of its own."""
    command = [sys.executable, "-m", "beam_jobs.embed", "--bundle", bundle, "--output", output, *flags]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(PROJECT)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_jsonl(path: Path, records: Iterable[Any]) -> Path:
    """Writes one JSON value per line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """Writes JSON Lines with an ``id`` that is the position, and the ``text``."""
    return write_jsonl(path, ({"id": str(index), "text": text} for index, text in enumerate(texts)))


def vectors_of(rows: pa.Table, column: str = "embedding") -> np.ndarray:
    """Returns float[rows, dim]."""
    lists = rows.column(column).combine_chunks()
    return np.asarray(lists.flatten()).reshape(len(rows), -1)
