"""``compare``: compares a bundle's vectors with reference vectors of another system."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.base.untrusted.printable import show
from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.command import Command, add_allow_ops, add_bundle, positive, print_allowed, yes_no
from model_bundle.cli.expected import add_expected_flags


def _add_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_expected_flags(parser, required=True)
    add_allow_ops(parser)
    add = partial(add_flag, parser)
    add("--layer L", "layer of the reference vectors (default: that of the bundle)")
    add("--pooling", "their pooling (default: that of the bundle)", choices=[p.value for p in Pooling])
    add("--normalize yes|no", "whether they have length 1 (default: that of the bundle)", parse=yes_no)
    add("--max_tokens N", "their token limit (default: that of the bundle)", parse=positive)


def _run(flags: Namespace) -> int:
    from model_bundle.base.similarity import Tolerance
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.compare.compare import RequestedSettings, compare, report
    from model_bundle.compare.read_files import align, read_expected_vectors, read_texts

    old = read_expected_vectors(flags.expected, flags.expected_layer)
    table = read_texts(flags.texts)
    texts, names, expected = align(table, old)
    pooling = None if flags.pooling is None else Pooling(flags.pooling)
    asked = choices_of(RequestedSettings, flags, pooling=pooling)
    limits = Tolerance(flags.min_cosine, flags.max_difference)
    bundle = ModelBundle.open(flags.bundle, flags.allow_ops)
    print_allowed(bundle)
    found = compare(bundle, texts, expected, asked, limits, table.columns)
    for line in report(found, texts, names):
        show(line)
    return 0 if found.is_same else 1


COMPARE = Command(
    "compare",
    "compare a bundle's vectors with reference vectors of another system",
    _add_flags,
    _run,
    (
        "bundles/l12 --texts texts.txt --expected old.npy",
        "bert-mini --texts texts.jsonl --expected old.jsonl --layer -2",
    ),
)
