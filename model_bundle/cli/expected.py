"""Flags for reference vectors, and building a bundle only if it reproduces them."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show
from model_bundle.errors import GoldenMismatchError, SettingsError

if TYPE_CHECKING:
    from model_bundle.builders.assemble import Built
    from model_bundle.bundle.bundle import ModelBundle


def add_expected_flags(parser: ArgumentParser, *, required: bool = False) -> None:
    """Adds the flags that name reference vectors and their texts."""
    add = partial(add_flag, parser)
    add(
        "--texts F",
        "texts of the reference vectors: .txt (one per line), .jsonl, .csv or .parquet",
        parse=Path,
        required=required,
    )
    add(
        "--expected OLD",
        "reference vectors: .npz, .npy, .hdf5, .parquet or .jsonl; matched by id if both files have "
        "ids, else by order",
        parse=Path,
        required=required,
    )
    add("--expected_layer N", "layer to read from reference arrays [layers, words, dim], from 0", parse=int)
    add(
        "--min_cosine C",
        "minimum cosine similarity that counts as equal (default: 0.9999)",
        parse=float,
        default=0.9999,
    )
    add(
        "--max_difference D",
        "maximum element-wise difference that counts as equal, relative to the largest reference value "
        "(default: 0.01)",
        parse=float,
        default=0.01,
    )


def old_files(flags: Namespace) -> list[Path]:
    """Lists the files that these flags name.

    Raises:
        SettingsError: reference vectors without their texts, or the other way round.
    """
    if (flags.expected is None) != (flags.texts is None):
        raise SettingsError(
            "--texts and --expected must be given together: reference vectors, and their texts."
        )
    return [path for path in (flags.texts, flags.expected) if path is not None]


def build_held_to_old(flags: Namespace, build: Callable[[Path], Built]) -> None:
    """Builds to ``--output``; with ``--expected``, only if the bundle reproduces the reference vectors.

    Prints the builder's notes, and where the bundle is. See ``build_to``.
    """
    print_built(build_to(flags.output, flags, build))


def print_built(bundle: ModelBundle) -> None:
    """Prints where a new bundle is, and its digest."""
    show(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


def build_to(output: Path, flags: Namespace, build: Callable[[Path], Built]) -> ModelBundle:
    """Builds; with ``--expected``, only what reproduces the reference vectors, which become golden vectors.

    Args:
        output: the folder to create.
        flags: with those of ``add_expected_flags``.
        build: builds the bundle in the folder it is given.

    Raises:
        SettingsError: reference vectors without their texts, or the other way round.
        GoldenMismatchError: the vectors differ; the report was printed, and nothing was built.
    """
    return _build_checked(output, flags, build) if old_files(flags) else _noted(build, output)


def _noted(build: Callable[[Path], Built], output: Path) -> ModelBundle:
    built = build(output)
    for note in built.notes:
        show(note)
    return built.bundle


def _build_checked(output: Path, flags: Namespace, build: Callable[[Path], Built]) -> ModelBundle:
    from model_bundle.base.similarity import Tolerance
    from model_bundle.builders.assemble import check_output
    from model_bundle.builders.reference_vectors import add_reference_vectors
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.compare.compare import compare, report
    from model_bundle.compare.read_files import align, read_expected_vectors, read_texts

    check_output(output)
    old = read_expected_vectors(flags.expected, flags.expected_layer)
    table = read_texts(flags.texts)
    texts, names, expected = align(table, old)
    limits = Tolerance(flags.min_cosine, flags.max_difference)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        built = _noted(build, Path(folder) / output.name)
        found = compare(built, texts, expected, tolerance=limits, columns=table.columns)
        for line in report(found, texts, names):
            show(line)
        if not found.is_same:
            raise GoldenMismatchError(
                "The model does not reproduce the vectors of --expected, see above; nothing was built. Build "
                "it with the settings that the report suggests, or without --expected."
            )
        adopted = add_reference_vectors(built, texts, expected, found, limits)
        if output.exists():
            output.rmdir()
        adopted.path.replace(output)
    return ModelBundle(output, adopted.manifest, adopted.digest, adopted.allowed_ops)
