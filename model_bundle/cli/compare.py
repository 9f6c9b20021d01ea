"""``compare``: compares a bundle's vectors or scores with those of another system."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.base.untrusted.printable import show
from model_bundle.bundle.specs import Pooling
from model_bundle.cli.command import Command, add_allow_ops, add_bundle, positive, print_allowed, yes_no
from model_bundle.cli.expected import add_expected_flags, read_pairs


def _add_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_expected_flags(parser, required=True)
    add_allow_ops(parser)
    add = partial(add_flag, parser)
    add("--layer L", "layer of the reference vectors (default: that of the bundle)")
    add(
        "--pooling P",
        "their pooling, such as mean or first (default: that of the bundle)",
        choices=[p.value for p in Pooling],
    )
    add("--normalize yes|no", "whether they have length 1 (default: that of the bundle)", parse=yes_no)
    add("--max_tokens N", "their token limit (default: that of the bundle)", parse=positive)


def _run(flags: Namespace) -> int:
    from model_bundle.base.similarity import Tolerance
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.compare.compare import RequestedSettings, compare
    from model_bundle.compare.report import report

    pairs = read_pairs(flags)
    pooling = None if flags.pooling is None else Pooling(flags.pooling)
    bundle = ModelBundle.open(flags.bundle, flags.allow_ops)
    print_allowed(bundle)
    found = compare(
        bundle,
        pairs.texts,
        pairs.expected,
        choices_of(RequestedSettings, flags, pooling=pooling),
        Tolerance(flags.min_cosine, flags.max_difference),
        pairs.table.columns,
        flags.max_score_difference,
    )
    for line in report(found, pairs.texts, pairs.names):
        show(line)
    return 0 if found.is_same else 1


COMPARE = Command(
    "compare",
    "compare a bundle's vectors, scores or labels with those of another system",
    _add_flags,
    _run,
    (
        "bundles/l12 --texts texts.txt --expected old.npy",
        "bert-mini --texts texts.jsonl --expected old.jsonl --layer -2",
        "bundles/mood --texts scores_2019.csv --text_column body --score_column p_positive",
    ),
)
