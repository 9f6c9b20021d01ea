"""Flags that name vectors of old, and building under the condition that a bundle gives them."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.errors import GoldenMismatchError, SettingsError

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle


def add_expected_flags(parser: ArgumentParser, *, required: bool = False) -> None:
    """Adds the flags that name old vectors and their texts."""
    parser.add_argument(
        "--texts",
        type=Path,
        required=required,
        metavar="F",
        help="texts whose vectors of old are known: .txt (a line each), .jsonl, .csv or .parquet",
    )
    parser.add_argument(
        "--expected",
        type=Path,
        required=required,
        metavar="OLD",
        help="these vectors: .npz, .npy, .hdf5, .parquet or .jsonl; paired by id where both have ids, else "
        "by order",
    )
    parser.add_argument(
        "--expected_layer", type=int, metavar="N", help="which one of old arrays [layers, words, dim], from 0"
    )
    parser.add_argument(
        "--min_cosine",
        type=float,
        default=0.9999,
        metavar="C",
        help="from here on the same (default: 0.9999)",
    )
    parser.add_argument(
        "--max_difference",
        type=float,
        default=0.01,
        metavar="D",
        help="of an element, as a share of the largest old one: up to here the same (default: 0.01)",
    )


def old_files(flags: Namespace) -> list[Path]:
    """Lists the files that these flags name."""
    return [path for path in (flags.texts, flags.expected) if path is not None]


def build_held_to_old(flags: Namespace, build: Callable[[Path], ModelBundle]) -> ModelBundle:
    """Builds to ``--output``; with ``--expected``, only what gives the old vectors, which become golden.

    Args:
        flags: with those of ``add_expected_flags``, and ``output``.
        build: makes the bundle in the folder it is given.

    Raises:
        SettingsError: old vectors without their texts, or the other way round.
        GoldenMismatchError: the vectors differ; the report has been printed, and nothing is left.
    """
    if (flags.expected is None) != (flags.texts is None):
        raise SettingsError("--texts and --expected belong together: vectors of old, and what they are of.")
    if flags.expected is None:
        return build(flags.output)
    from model_bundle.base.similarity import Tolerance
    from model_bundle.builders.assemble import check_output
    from model_bundle.builders.reference_vectors import add_reference_vectors
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.compare.compare import compare, report
    from model_bundle.compare.read_files import align, read_expected_vectors, read_texts

    output: Path = flags.output
    check_output(output)
    old = read_expected_vectors(flags.expected, flags.expected_layer)
    table = read_texts(flags.texts)
    texts, names, expected = align(table, old)
    limits = Tolerance(flags.min_cosine, flags.max_difference)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        built = build(Path(folder) / output.name)
        found = compare(built, texts, expected, tolerance=limits, columns=table.columns)
        for line in report(found, texts, names):
            print(line, flush=True)
        if not found.is_same:
            raise GoldenMismatchError(
                "The model does not give the vectors of --expected, see above; nothing was built. Build it "
                "as the report says, or without --expected."
            )
        adopted = add_reference_vectors(built, texts, expected, found, limits)
        if output.exists():
            output.rmdir()
        adopted.path.replace(output)
    return ModelBundle(output, adopted.manifest, adopted.digest, adopted.allowed_ops)
