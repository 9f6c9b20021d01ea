"""Builds in a confined process, and takes over what it built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_bundle.base.cache import staging
from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits
from model_bundle.builders.assemble import check_output, move_bundle
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.graph_scan.allowed_operations import reaches_outside


def build_sandboxed(
    output: Path,
    work: Callable[..., None],
    *arguments: Any,
    readable: Sequence[Path],
    listed: Sequence[Path] = (),
    allow_ops: Sequence[str],
) -> ModelBundle:
    """Has a bundle built where nothing can be reached but what it is built of.

    Args:
        output: the folder to make.
        work: called in the new process with the folder to make there, and the arguments. See
            ``run_confined``.
        arguments: for it.
        readable: files and folders that it reads.
        listed: folders whose names it reads.
        allow_ops: operations that the graph may use although they reach beyond it.

    Returns:
        The bundle, whose files and graph have been checked in this process, too.

    Raises:
        ModelBundleError: what the work raised, or ``output`` is there already.
    """
    check_output(output)
    with staging(output.parent) as own:
        limits = Limits(own, tuple(path.resolve() for path in readable), tuple(listed))
        is_free = any(map(reaches_outside, allow_ops))
        run_confined(None if is_free else limits, work, own / output.name, *arguments)
        built = ModelBundle.open(own / output.name, allow_ops)
        move_bundle(built.path, output)
    return replace(built, path=output)
