"""``compare``: are today's vectors the same as those of old?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.cli.command import Command, positive, yes_no
from model_bundle.manifest import Pooling


def add_expected_files(parser: ArgumentParser, *, required: bool) -> None:
    """Adds the flags that name old vectors and their texts."""
    parser.add_argument(
        "--texts",
        type=Path,
        required=required,
        metavar="F",
        help=".txt (a line each), .jsonl, .csv or .parquet",
    )
    parser.add_argument(
        "--expected",
        type=Path,
        required=required,
        metavar="OLD",
        help="their vectors of old: .npz, .npy, .hdf5, .parquet or .jsonl; paired by id where both have ids, "
        "else by order",
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


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a folder, gs:// URL or name; @sha256:… pins its digest"
    )
    add_expected_files(parser, required=True)
    parser.add_argument("--layer", metavar="L", help="layer the old vectors are of (default: the bundle's)")
    parser.add_argument(
        "--pooling", choices=[p.value for p in Pooling], help="how they were pooled (default: the bundle's)"
    )
    parser.add_argument(
        "--normalize", type=yes_no, metavar="yes|no", help="whether to length 1 (default: the bundle's)"
    )
    parser.add_argument(
        "--max_tokens", type=positive, metavar="N", help="their limit (default: the bundle's)"
    )


def _run(flags: Namespace) -> int:
    from model_bundle.bundle import ModelBundle
    from model_bundle.compare.compare import Asked, compare
    from model_bundle.compare.measure import Limits
    from model_bundle.compare.read import align, read_old_vectors, read_texts
    from model_bundle.compare.report import report

    old = read_old_vectors(flags.expected, flags.expected_layer)
    texts, names, expected = align(read_texts(flags.texts), old)
    asked = Asked(
        layer=flags.layer,
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
        normalize=flags.normalize,
        max_tokens=flags.max_tokens,
    )
    limits = Limits(flags.min_cosine, flags.max_difference)
    found = compare(ModelBundle.open(flags.bundle), texts, expected, asked, limits)
    for line in report(found, texts, names):
        print(line, flush=True)
    return 0 if found.is_same else 1


COMPARE = Command("compare", "compare a bundle's vectors with those of old", _add_flags, _run)
