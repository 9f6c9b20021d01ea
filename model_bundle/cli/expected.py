"""Flags for reference vectors and scores, and building a bundle only if it reproduces them."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show
from model_bundle.errors import GoldenMismatchError, SettingsError

if TYPE_CHECKING:
    from model_bundle.builders.assemble import Built
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.compare.expected import Expected, Texts


def add_expected_flags(parser: ArgumentParser, *, required: bool = False) -> None:
    """Adds the flags that name reference vectors and their texts."""
    add = partial(add_flag, parser)
    add(
        "--texts F",
        "texts of the reference: .txt (one per line), .jsonl, .csv, .tsv or .parquet",
        parse=Path,
        required=required,
    )
    add(
        "--expected OLD",
        "reference vectors, scores or labels: .npz, .npy, .hdf5, .parquet, .jsonl, .csv, .tsv or a run's "
        "folder; matched by id if both have ids, else by order (default with --score_column or "
        "--label_column: --texts)",
        parse=Path,
    )
    add("--text_column A", "column of the texts (default: text)", default="text")
    add("--id_column A", "column of the ids in both tables (default: id or doc_id, if present)")
    add(
        "--score_column A[,B]",
        "column with a classifier's scores, or one column per label in the order of the labels",
        parse=_names,
        default=(),
    )
    add("--label_column A", "column with the label that the old system assigned, by name or position from 0")
    add("--expected_layer N", "layer to read from reference arrays [layers, words, dim], from 0", parse=int)
    add("--min_cosine C", "minimum cosine similarity of vectors that counts as equal", default=0.9999)
    add(
        "--max_difference D",
        "maximum element-wise difference of vectors that counts as equal, relative to the largest reference "
        "value",
        default=0.01,
    )
    add("--max_score_difference D", "maximum difference of a score that counts as equal", default=1e-4)


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(","))


@dataclass(frozen=True)
class Pairs:
    """Texts, a name for each, and their reference; ``table``: the texts' table."""

    texts: list[str]
    names: list[str]
    expected: Expected
    table: Texts


def read_pairs(flags: Namespace) -> Pairs:
    """Reads the files that these flags name, and pairs texts with their reference.

    Raises:
        SettingsError: a flag is missing, a file has another form, or texts and reference do not pair up.
    """
    from model_bundle.compare.expected import Columns, align
    from model_bundle.compare.read_files import read_expected, read_texts

    columns = Columns(flags.text_column, flags.id_column, flags.score_column, flags.label_column)
    _, place = old_files(flags)
    old = read_expected(place, flags.expected_layer, columns)
    table = read_texts(flags.texts, columns)
    # Rows of one table belong together, whatever their ids are.
    texts, names, expected = align(table, replace(old, ids=None) if place == flags.texts else old)
    return Pairs(texts, names, expected, table)


def old_files(flags: Namespace) -> list[Path]:
    """Lists the files that these flags name: none, or that of the texts and that of the reference.

    Raises:
        SettingsError: a reference without its texts, or the other way round.
    """
    columns = bool(flags.score_column) or flags.label_column is not None
    place = flags.texts if flags.expected is None and columns else flags.expected
    if (place is None) != (flags.texts is None) or (columns and flags.texts is None):
        raise SettingsError(
            "--texts and --expected must be given together: reference vectors or scores, and their texts. If "
            "one table has both, name its columns with --score_column or --label_column."
        )
    return [] if place is None else [flags.texts, place]


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
    from model_bundle.compare.compare import compare
    from model_bundle.compare.report import report

    check_output(output)
    pairs = read_pairs(flags)
    limits = Tolerance(flags.min_cosine, flags.max_difference)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        built = _noted(build, Path(folder) / output.name)
        found = compare(
            built,
            pairs.texts,
            pairs.expected,
            tolerance=limits,
            columns=pairs.table.columns,
            max_score_difference=flags.max_score_difference,
        )
        for line in report(found, pairs.texts, pairs.names):
            show(line)
        if not found.is_same:
            raise GoldenMismatchError(
                "The model does not reproduce what --expected has, see above; nothing was built. Build "
                "it with the settings that the report suggests, or without --expected."
            )
        adopted = add_reference_vectors(built, pairs.texts, pairs.expected.vectors or [], found, limits)
        if output.exists():
            output.rmdir()
        adopted.path.replace(output)
    return ModelBundle(output, adopted.manifest, adopted.digest, adopted.allowed_ops)
