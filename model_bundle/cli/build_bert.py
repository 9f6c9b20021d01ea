"""``build bert``: Hugging Face, sentence-transformers and Google models to a bundle."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.cli.command import Command, positive, yes_no
from model_bundle.manifest import Pooling


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a Hugging Face or sentence-transformers folder, a Hub identifier (owner/name), or a folder "
        "with Google's bert_config.json, vocab.txt and bert_model.ckpt",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the bundle to make")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--name", help="what to call the bundle (default: as the source)")
    parser.add_argument("--max_tokens", type=positive, metavar="N", help="limit, special tokens counted")
    parser.add_argument(
        "--pooling",
        choices=[p.value for p in Pooling],
        help="token states to a vector (default: as the source)",
    )
    parser.add_argument(
        "--normalize", type=yes_no, metavar="yes|no", help="vectors to length 1 (default: as the source)"
    )
    parser.add_argument(
        "--lowercase", type=yes_no, metavar="yes|no", help="for a bare vocab.txt (default: as it shows)"
    )
    parser.add_argument("--licence", metavar="ID", help="the model's licence, where the source does not say")
    parser.add_argument("--origin", help="what to record as the place the model came from")


def _run(flags: Namespace) -> None:
    from model_bundle.build.assemble import check_output
    from model_bundle.build.bert import build_encoder_bundle
    from model_bundle.build.bert_source import BertOptions, read_bert_source

    check_output(flags.output)
    options = BertOptions(
        revision=flags.revision,
        name=flags.name,
        max_tokens=flags.max_tokens,
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
        normalize=flags.normalize,
        lowercase=flags.lowercase,
        origin=flags.origin,
        licence=flags.licence,
    )
    read = read_bert_source(flags.source, options)
    for note in read.notes:
        print(note, flush=True)
    bundle = build_encoder_bundle(read.source, flags.output)
    print(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


BUILD_BERT = Command("bert", "BERT, DistilBERT and RoBERTa encoders", _add_flags, _run)
