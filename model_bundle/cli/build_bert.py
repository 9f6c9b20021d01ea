"""``build bert``: Hugging Face, sentence-transformers and Google models to a bundle."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.command import Command, positive, yes_no
from model_bundle.cli.expected import add_expected_flags, build_held_to_old
from model_bundle.errors import SettingsError


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a Hugging Face or sentence-transformers folder, a Hub identifier (owner/name), or a folder "
        "with Google's bert_config.json, vocab.txt and bert_model.ckpt",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the bundle to make")
    parser.add_argument(
        "--task",
        choices=["embed", "classify"],
        default="embed",
        help="embed: the encoder, for vectors (default); classify: with the head that was trained on it",
    )
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
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="F",
        help="to classify: names, one a line (default: the source's id2label)",
    )
    parser.add_argument(
        "--multi_label",
        type=yes_no,
        metavar="yes|no",
        help="to classify: whether several labels may hold at once (default: the source's problem_type)",
    )
    parser.add_argument("--licence", metavar="ID", help="the model's licence, where the source does not say")
    parser.add_argument("--origin", help="what to record as the place the model came from")
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.assemble import check_output
    from model_bundle.builders.bert.build import build_encoder_bundle
    from model_bundle.builders.bert.heads import HeadOptions
    from model_bundle.builders.bert.source import BertOptions, read_bert_source

    check_output(flags.output)
    classifies = flags.task == "classify"
    if not classifies and (flags.labels is not None or flags.multi_label is not None):
        raise SettingsError(
            "--labels and --multi_label are for classes: add --task classify, or leave them out."
        )
    options = BertOptions(
        revision=flags.revision,
        name=flags.name,
        max_tokens=flags.max_tokens,
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
        normalize=flags.normalize,
        lowercase=flags.lowercase,
        origin=flags.origin,
        licence=flags.licence,
        head=HeadOptions(flags.labels, flags.multi_label) if classifies else None,
    )
    read = read_bert_source(flags.source, options)
    for note in read.notes:
        print(note, flush=True)
    bundle = build_held_to_old(flags, lambda output: build_encoder_bundle(read.source, output))
    print(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


BUILD_BERT = Command("bert", "BERT, DistilBERT and RoBERTa encoders and classifiers", _add_flags, _run)
