"""``build bert``: builds bundles from Hugging Face, sentence-transformers and Google models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.base.untrusted.printable import show
from model_bundle.bundle.specs import Pooling
from model_bundle.cli.command import Command, add_labels_of_bundle, add_output, positive, yes_no
from model_bundle.cli.expected import add_expected_flags, build_held_to_old, build_to
from model_bundle.cli.quantize import build_quantized
from model_bundle.errors import SettingsError

if TYPE_CHECKING:
    from model_bundle.builders.assemble import Built
    from model_bundle.builders.bert.build import BertSource


def _add_flags(parser: ArgumentParser) -> None:
    add = partial(add_flag, parser)
    add(
        "source SOURCE",
        "Hugging Face or sentence-transformers folder, Hub identifier (owner/name), or folder with "
        "Google's bert_config.json (or albert_config.json), vocab.txt and bert_model.ckpt",
    )
    add_output(parser)
    add(
        "--task",
        "embed: the encoder alone, for vectors (default); classify: with its trained head; pairs: with one "
        "that scores two texts together (reranker, entailment, paraphrase)",
        choices=["embed", "classify", "pairs"],
        default="embed",
    )
    add("--revision REV", "branch, tag or commit on the Hub")
    add("--max_tokens N", "maximum tokens, special ones included", parse=positive)
    add(
        "--pooling P",
        "how token states become one vector: mean, max, first, last, mean_sqrt_len, weighted_mean or pooler "
        "(default: that of the source)",
        choices=[p.value for p in Pooling],
    )
    add("--normalize yes|no", "scale vectors to length 1 (default: that of the source)", parse=yes_no)
    add(
        "--truncate_dim N",
        "keep only the first N numbers of a vector, after all modules (default: that of the source)",
        parse=positive,
    )
    add("--lowercase yes|no", "lower-case texts, for a bare vocab.txt (default: detected)", parse=yes_no)
    add(
        "--labels F",
        "with --task classify or pairs: file of label names, one per line (default: id2label of the source)",
        parse=Path,
    )
    add(
        "--multi_label yes|no",
        "with --task classify or pairs: whether several labels may apply at once (default: problem_type of "
        "the source)",
        parse=yes_no,
    )
    add(
        "--single_text",
        "with --task classify: the head was trained on single texts, although its files suggest two "
        "(reranker, entailment)",
    )
    add(
        "--scores",
        "with --task pairs: activation applied to the output (default: that of a CrossEncoder, else by "
        "problem_type and number of labels)",
        choices=["as_is", "sigmoid", "softmax"],
    )
    add(
        "--pair_truncation",
        "with --task pairs: which text of a pair that is too long loses tokens (default: longest_first)",
        choices=["longest_first", "only_second"],
    )
    add_labels_of_bundle(parser)
    add_expected_flags(parser)
    add(
        "--int8",
        "also compute in int8, as quantize does; --texts then choose the scales, too (default: the English "
        "sample of this package)",
    )


def _run(flags: Namespace) -> None:
    from model_bundle.builders.assemble import check_output
    from model_bundle.builders.bert.heads import HeadOptions
    from model_bundle.builders.bert.source import BertOptions, read_bert_source

    check_output(flags.output)
    _check(flags)
    options = choices_of(
        BertOptions,
        flags,
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
        head=None
        if flags.task == "embed"
        else HeadOptions(
            flags.labels,
            flags.multi_label,
            flags.single_text,
            flags.task == "pairs",
            flags.pair_truncation or "longest_first",
            flags.scores,
        ),
    )
    read = read_bert_source(flags.source, options)
    for note in read.notes:
        show(note)
    build = partial(_build, read.source)
    if not flags.int8:
        build_held_to_old(flags, build)
        return
    texts = flags.texts if flags.expected is not None else None  # else they are for int8 alone
    held = Namespace(**vars(flags) | {"texts": texts})
    build_quantized(lambda folder: build_to(folder, held, build), flags.texts, flags.output)


def _check(flags: Namespace) -> None:
    """Rejects flags that have no effect with ``--task``, or are not offered with it."""
    given = {
        "classify or pairs": {"labels": flags.labels, "multi_label": flags.multi_label},
        "classify": {"single_text": flags.single_text or None},
        "pairs": {"scores": flags.scores, "pair_truncation": flags.pair_truncation},
    }
    for tasks, values in given.items():
        names = [f"--{name}" for name, value in values.items() if value is not None]
        if names and flags.task not in tasks.split():
            raise SettingsError(
                f"{', '.join(names)} {'have' if len(names) > 1 else 'has'} no effect without --task {tasks}. "
                "Add it, or omit the flag."
            )
    for name in ("expected", "texts", "score_column", "label_column", "int8", "pooling"):
        if flags.task == "pairs" and getattr(flags, name):
            raise SettingsError(
                f"--{name} is not offered with --task pairs, which takes two texts and gives no vectors. "
                "Omit it; compare scores with Classifier.score."
            )


def _build(source: BertSource, output: Path) -> Built:
    from model_bundle.builders.assemble import Built
    from model_bundle.builders.bert.build import build_encoder_bundle

    return Built(build_encoder_bundle(source, output))


BUILD_BERT = Command(
    "bert",
    "encoders and classifiers from BERT to ModernBERT and DeBERTa, see docs/models.md",
    _add_flags,
    _run,
    (
        "sentence-transformers/all-MiniLM-L12-v2 --output bundles/l12",
        "sentence-transformers/all-MiniLM-L12-v2 --int8 --texts news.txt --output bundles/l12-int8",
        "checkpoints/mood --task classify --output bundles/mood",
        "cross-encoder/ms-marco-MiniLM-L6-v2 --task pairs --output bundles/reranker",
    ),
)
