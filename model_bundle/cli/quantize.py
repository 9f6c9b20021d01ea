"""``quantize``: builds a bundle that also computes in int8, and says what that costs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.base.flags import add_flag
from model_bundle.cli.command import Command, add_bundle, add_output


def _add_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_flag(
        parser,
        "--texts F",
        "some 600 texts like those to embed: .txt (one per line), .jsonl, .csv or .parquet; two thirds "
        "choose the scales, the rest measures the quality",
        parse=Path,
        required=True,
    )
    add_output(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.bert.int8.build import quantize_bundle
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.bundle.describe import describe_quality
    from model_bundle.compare.read_files import read_texts

    texts = [text for text in read_texts(flags.texts).texts if text.strip()]
    bundle = quantize_bundle(
        ModelBundle.open(flags.bundle),
        texts,
        flags.output,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    spec = bundle.manifest.int8
    assert spec is not None
    for precision, quality in spec.quality.items():
        print(f"{precision}: {describe_quality(quality)}")
    print(f"left in float: {', '.join(spec.float_layers) or 'nothing'}")
    print(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


QUANTIZE = Command(
    "quantize",
    "build a bundle that also computes in int8 (BERT), and measure what that costs",
    _add_flags,
    _run,
    ("bert-mini --texts news.txt --output bundles/mini-int8",),
)
