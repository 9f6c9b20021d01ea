"""``train``: trains a classifier on a bundle's vectors, or together with its encoder."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path
from typing import Self

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.cli.command import Command, add_output, names, positive

_EXAMPLE = "--bundle bert-mini --data mood.csv --text_column text --label_column mood"


def _add_flags(parser: ArgumentParser) -> None:
    add = partial(add_flag, parser)
    add(
        "--bundle DIR|NAME",
        "model bundle to compute vectors with: a folder, its URL or known name",
        required=True,
    )
    add_output(parser)
    _add_data(parser)
    _add_learning(parser)
    add("--name NAME", "name of the new bundle (default: that of --bundle, -classifier)")


def _add_data(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    add = partial(add_flag, group)
    add(
        "--data F",
        "table of texts and labels: .tsv, .csv, .jsonl (also .gz) or .parquet",
        required=True,
        parse=Path,
    )
    add("--text_column A", "column with the text", required=True)
    add("--label_column A", "column with the label", required=True)
    add("--column_names A,B", "column names of files without a header row", parse=names, default=())
    add("--no_csv_quotes", "treat quotes as ordinary characters")
    add("--numeric_columns A,B", "numeric columns to use together with the text", parse=names, default=())
    add("--dev F", "table of held-out rows (default: a part of --data)", parse=Path)
    add("--held_out F", "fraction of --data to hold out (default: 0.1)", default=0.1)
    add("--max_tokens N", "truncate texts after N tokens", parse=positive)


def _add_learning(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("learning")
    add = partial(add_flag, group)
    add("--fine_tune", "also train the encoder (bundles of build bert)")
    add("--mix", "learn the weight of each layer (ELMo)")
    add("--hidden N", "units of a hidden layer (default: no hidden layer)", parse=positive)
    add("--epochs N", "maximum epochs (default: 60; 2 with --fine_tune)", parse=positive)
    add("--learning_rate R", "peak learning rate (default: 3e-3; 5e-5 with --fine_tune)", parse=float)
    add("--l2 W", "L2 penalty of the head (default: 0.05; 0.01 with --hidden)", parse=float)
    add("--batch_texts N", "texts per step (default: up to 256; 32 with --fine_tune)", parse=positive)
    add(
        "--patience N",
        "stop after N epochs without improvement on held-out rows (default: 5)",
        parse=positive,
        default=5,
    )
    add(
        "--class_weights balanced|LABEL=W,…",
        "weight of each label's rows (default: 1 each)",
        parse=_class_weights,
    )
    add("--seed N", "random seed; the same seed builds the same bundle (default: 1)", default=1)


def _run(flags: Namespace) -> None:
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.runtime.tensorflow_setup import import_tensorflow
    from model_bundle.training.options import DataOptions, HeadOptions, TrainOptions
    from model_bundle.training.split import read_data

    data = choices_of(DataOptions, flags, csv_quotes=not flags.no_csv_quotes)
    class_weights = flags.class_weights or ""
    head = choices_of(HeadOptions, flags, hidden=flags.hidden or 0, class_weights=class_weights)
    options = TrainOptions(data, head, flags.max_tokens, flags.name)
    base = ModelBundle.open(flags.bundle)
    # Errors in the table are reported before TensorFlow is imported.
    table = read_data(data, head.seed)
    # Deterministic, TensorFlow reports on graphs of its own that older versions would not know.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # One order of summing, whatever the threads do: the same seed gives the same bundle.
    import_tensorflow().config.experimental.enable_op_determinism()
    from model_bundle.training.train import train_bundle

    with _Progress() as progress:
        result = train_bundle(base, table, options, flags.output, progress.show)
    metrics, path = result.metrics, result.bundle.path
    print(f"held-out accuracy: {metrics.accuracy:.4f}, macro F1: {metrics.macro_f1:.4f}")
    print(f"report: {path / 'training' / 'report.html'}")
    print(f"built: {path}\ndigest: sha256:{result.bundle.digest}")


class _Progress:
    """One live line on standard error; without a terminal, one line per epoch."""

    def __init__(self) -> None:
        self._is_watched = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_watched and self._last:
            print(file=sys.stderr)

    def show(self, text: str) -> None:
        """Shows the progress; that of batches only on the live line."""
        if self._is_watched:
            print(f"\r{text:<{len(self._last)}}", end="", file=sys.stderr, flush=True)
        elif ", batch " not in text:
            print(text, file=sys.stderr, flush=True)
        self._last = text


def _class_weights(text: str) -> str | dict[str, float]:
    if text == "balanced":
        return text
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        weights = {name: float(value) for name, found, value in pairs if found and name}
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from error
    if len(weights) < len(pairs) or not all(0 < weight < 1e6 for weight in weights.values()):
        raise ArgumentTypeError(f"{text!r} is neither balanced nor of the form LABEL=2.5,LABEL=1")
    return weights


TRAIN = Command(
    "train",
    "train a classifier on a bundle, from a table of texts and labels",
    _add_flags,
    _run,
    (f"{_EXAMPLE} --output bundles/mood", f"{_EXAMPLE} --fine_tune --epochs 3 --output bundles/tuned"),
)
