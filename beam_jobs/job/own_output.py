"""Rejects input patterns that match the output of earlier runs by accident."""

from __future__ import annotations

import os
from collections.abc import Sequence

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.types import FileInfo
from beam_jobs.store.manifest import CHANGES, CLASSES, DEAD_LETTERS, EMBEDDINGS, STAGING_DIR

_FOLDERS = (EMBEDDINGS, CLASSES, DEAD_LETTERS, CHANGES, STAGING_DIR)


def check_no_own_output(files: Sequence[FileInfo], output: str) -> None:
    """Checks that no pattern reaches into a run below ``output``; one that names the run's folder may.

    Args:
        files: the matched input files.
        output: root of the runs.

    Raises:
        UsageError: a file belongs to a run, and the fixed part of its pattern does not lead into that run.
    """
    root = f"{_real(output)}/"
    for file in files:
        path = _real(file.path)
        run_id, _, below = path.removeprefix(root).partition("/")
        if not path.startswith(root) or below.partition("/")[0] not in _FOLDERS:
            continue
        fixed = _real(file.path.removesuffix(file.relative))
        if not f"{fixed}/".startswith(f"{root}{run_id}/"):
            raise UsageError(
                f"--input matches {file.path}, which an earlier run wrote below --output {output}: its rows "
                "would be read as documents. Choose a pattern or an --output that keeps them apart. To read "
                f"a run on purpose, name its folder in the pattern: {root}{run_id}/…"
            )


def _real(path: str) -> str:
    """Returns a path without links and trailing slashes, so that two ways to a folder are one."""
    return path.rstrip("/") if "://" in path else os.path.realpath(path)
