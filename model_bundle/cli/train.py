"""``train``: trains a classifier on a bundle's vectors, or together with its encoder."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Self

from model_bundle.cli.command import Command, add_output, names, positive

_EXAMPLE = (
    "python -m model_bundle train --bundle bert-mini --data mood.csv --text_column text --label_column mood"
)


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        required=True,
        metavar="DIR|NAME",
        help="model bundle to compute vectors with: a folder, gs:// URL or known name",
    )
    add_output(parser)
    _add_data(parser)
    _add_learning(parser)
    parser.add_argument(
        "--name", metavar="NAME", help="name of the new bundle (default: that of --bundle, -classifier)"
    )


def _add_data(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        required=True,
        type=Path,
        metavar="F",
        help="table of texts and labels: .tsv, .csv, .jsonl (also .gz) or .parquet",
    )
    group.add_argument("--text_column", required=True, metavar="A", help="column with the text")
    group.add_argument("--label_column", required=True, metavar="A", help="column with the label")
    group.add_argument(
        "--column_names",
        type=names,
        default=(),
        metavar="A,B",
        help="column names of files without a header row",
    )
    group.add_argument("--no_csv_quotes", action="store_true", help="treat quotes as ordinary characters")
    group.add_argument(
        "--numeric_columns",
        type=names,
        default=(),
        metavar="A,B",
        help="numeric columns to use together with the text",
    )
    group.add_argument(
        "--dev", type=Path, metavar="F", help="table of held-out rows (default: a part of --data)"
    )
    group.add_argument(
        "--held_out",
        type=float,
        default=0.1,
        metavar="F",
        help="fraction of --data to hold out (default: 0.1)",
    )
    group.add_argument("--max_tokens", type=positive, metavar="N", help="truncate texts after N tokens")


def _add_learning(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("learning")
    group.add_argument("--fine_tune", action="store_true", help="also train the encoder (BERT)")
    group.add_argument("--mix", action="store_true", help="learn the weight of each layer (ELMo)")
    group.add_argument(
        "--hidden", type=positive, metavar="N", help="units of a hidden layer (default: no hidden layer)"
    )
    group.add_argument(
        "--epochs", type=positive, metavar="N", help="maximum epochs (default: 60; 2 with --fine_tune)"
    )
    group.add_argument(
        "--learning_rate",
        type=float,
        metavar="R",
        help="peak learning rate (default: 3e-3; 5e-5 with --fine_tune)",
    )
    group.add_argument(
        "--l2", type=float, metavar="W", help="L2 penalty of the head (default: 0.05; 0.01 with --hidden)"
    )
    group.add_argument(
        "--batch_texts",
        type=positive,
        metavar="N",
        help="texts per step (default: up to 256; 32 with --fine_tune)",
    )
    group.add_argument(
        "--patience",
        type=positive,
        default=5,
        metavar="N",
        help="stop after N epochs without improvement on held-out rows (default: 5)",
    )
    group.add_argument(
        "--class_weights",
        type=_class_weights,
        metavar="balanced|LABEL=W,…",
        help="weight of each label's rows (default: 1 each)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="random seed; the same seed builds the same bundle (default: 1)",
    )


def _run(flags: Namespace) -> None:
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.runtime.tensorflow_setup import import_tensorflow
    from model_bundle.training.options import DataOptions, HeadOptions, TrainOptions
    from model_bundle.training.split import read_data

    data = DataOptions(
        data=flags.data,
        text_column=flags.text_column,
        label_column=flags.label_column,
        dev=flags.dev,
        held_out=flags.held_out,
        column_names=flags.column_names,
        csv_quotes=not flags.no_csv_quotes,
        numeric_columns=flags.numeric_columns,
    )
    head = HeadOptions(
        hidden=flags.hidden or 0,
        epochs=flags.epochs,
        learning_rate=flags.learning_rate,
        l2=flags.l2,
        batch_texts=flags.batch_texts,
        patience=flags.patience,
        class_weights=flags.class_weights or "",
        mix=flags.mix,
        fine_tune=flags.fine_tune,
        seed=flags.seed,
    )
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
    (
        f"{_EXAMPLE} --output bundles/mood",
        f"{_EXAMPLE} --fine_tune --epochs 3 --output bundles/tuned",
    ),
)
