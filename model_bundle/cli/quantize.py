"""``quantize``: builds a bundle that also computes in int8, and says what that costs."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show
from model_bundle.cli.command import Command, add_bundle, add_output

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle


def _add_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_flag(
        parser,
        "--texts F",
        "some 600 texts like those to embed: .txt (one per line), .jsonl, .csv or .parquet; two thirds "
        "choose the scales, the rest measures the quality (default: the English sample of this package)",
        parse=Path,
    )
    add_output(parser)
    add_flag(
        parser,
        "--only_int8",
        "leave out the float weights: less than a third of the size, and no other precision than int8",
    )


def _run(flags: Namespace) -> None:
    from model_bundle.bundle.bundle import ModelBundle

    quantize(ModelBundle.open(flags.bundle), flags.texts, flags.output, only_int8=flags.only_int8)


def quantize(bundle: ModelBundle, texts: Path | None, output: Path, *, only_int8: bool = False) -> None:
    """Builds a bundle with int8 from one without, and prints what int8 costs and where the bundle is.

    Args:
        bundle: the bundle without int8.
        texts: the file of ``--texts``; None means the sample.
        output: the folder to create.
        only_int8: without float weights.
    """
    from model_bundle.bundle.describe import describe_quality
    from model_bundle.compare.read_files import read_texts
    from model_bundle.quantize.build import quantize_bundle
    from model_bundle.quantize.trial import HELD_OUT
    from model_bundle.text.sample_data import sample_texts

    found = sample_texts(HELD_OUT) if texts is None else read_texts(texts).texts
    quantized = quantize_bundle(
        bundle,
        [text for text in found if text.strip()],
        output,
        lambda line: print(line, file=sys.stderr, flush=True),
        only_int8=only_int8,
    )
    spec = quantized.manifest.int8
    assert spec is not None
    for precision, quality in spec.quality.items():
        print(f"{precision}: {describe_quality(quality)}")
    for precision, layers in spec.layers_in_float().items():
        print(f"{precision} leaves in float: {', '.join(layers) or 'nothing'}")
    show(f"built: {quantized.path}\ndigest: sha256:{quantized.digest}")


def build_quantized(build: Callable[[Path], ModelBundle], texts: Path | None, output: Path) -> None:
    """Builds a bundle beside ``output``, quantizes it to there, and removes it. See ``quantize``."""
    from model_bundle.builders.assemble import check_output

    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        quantize(build(Path(folder) / output.name), texts, output)


QUANTIZE = Command(
    "quantize",
    "build a bundle that also computes in int8 (BERT, ELMo, SavedModels), and measure what that costs",
    _add_flags,
    _run,
    ("bert-mini --texts news.txt --output bundles/mini-int8",),
)
