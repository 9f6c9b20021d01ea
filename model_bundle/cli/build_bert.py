"""``build bert``: builds bundles from Hugging Face, sentence-transformers and Google models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.base.printable import show
from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.command import Command, add_labels_of_bundle, add_output, positive, yes_no
from model_bundle.cli.expected import add_expected_flags, build_held_to_old
from model_bundle.errors import SettingsError


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="Hugging Face or sentence-transformers folder, Hub identifier (owner/name), or folder with "
        "Google's bert_config.json, vocab.txt and bert_model.ckpt",
    )
    add_output(parser)
    parser.add_argument(
        "--task",
        choices=["embed", "classify"],
        default="embed",
        help="embed: the encoder alone, for vectors (default); classify: with its trained head",
    )
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit on the Hub")
    parser.add_argument(
        "--max_tokens", type=positive, metavar="N", help="maximum tokens, special ones included"
    )
    parser.add_argument(
        "--pooling",
        choices=[p.value for p in Pooling],
        help="how token states become one vector (default: that of the source)",
    )
    parser.add_argument(
        "--normalize",
        type=yes_no,
        metavar="yes|no",
        help="scale vectors to length 1 (default: that of the source)",
    )
    parser.add_argument(
        "--lowercase",
        type=yes_no,
        metavar="yes|no",
        help="lower-case texts, for a bare vocab.txt (default: detected)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="F",
        help="with --task classify: file of label names, one per line (default: id2label of the source)",
    )
    parser.add_argument(
        "--multi_label",
        type=yes_no,
        metavar="yes|no",
        help="with --task classify: whether several labels may apply at once (default: problem_type of the "
        "source)",
    )
    add_labels_of_bundle(parser)
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
            "--labels and --multi_label have no effect without --task classify. Add it, or omit them."
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
        show(note)
    bundle = build_held_to_old(flags, lambda output: build_encoder_bundle(read.source, output))
    show(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


BUILD_BERT = Command(
    "bert",
    "BERT, DistilBERT and RoBERTa encoders and classifiers",
    _add_flags,
    _run,
    (
        "python -m model_bundle build bert sentence-transformers/all-MiniLM-L12-v2 --output bundles/l12",
        "python -m model_bundle build bert checkpoints/mood --task classify --output bundles/mood",
    ),
)
