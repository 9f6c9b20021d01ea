"""Measures the quality and speed of bundles.

Run: ``python -m benchmarks.quality --bundles bert-mini,minilm [--data DIR] [--rounds 3]``. Prints a Markdown
table:

- STS benchmark, development: Spearman's correlation of cosines with human scores.
- SST-2, development: accuracy of a logistic regression on the vectors of the training sentences.
- AG News, test: accuracy of a 5-nearest-neighbour classifier.
- documents/s on AG News, texts to vectors, in turns in one process, the median of the rounds.

Bundles with vectors are given by name or folder. ``--data`` contains stsb_en_dev.csv.gz,
sst2_train.tsv.gz, sst2_dev.tsv.gz and ag_news_test.csv.gz.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.measures import logistic_accuracy, neighbour_accuracy, spearman, unit
from benchmarks.worker import ROOT
from model_bundle import Encoder

_SPEED_TEXTS = 2_000
_SETS = ("sts", "sst2", "ag_news", "speed")


def read_sts(data: Path, part: str = "dev") -> tuple[list[str], list[str], np.ndarray]:
    """Returns the first texts, the second texts, and their scores, float64[pairs]."""
    rows = list(csv.reader(_opened(data / f"stsb_en_{part}.csv.gz")))
    first, second, scores = zip(*rows, strict=True)
    return list(first), list(second), np.array(scores, np.float64)


def read_sst2(data: Path, part: str) -> tuple[list[str], np.ndarray]:
    """Returns sentences and int64[sentences] of 0 (negative) and 1."""
    rows = [line.rstrip("\n").rpartition("\t") for line in _opened(data / f"sst2_{part}.tsv.gz")]
    rows = [row for row in rows if row[2] in ("0", "1")]
    return [row[0] for row in rows], np.array([int(row[2]) for row in rows])


def read_ag_news(data: Path) -> tuple[list[str], np.ndarray]:
    """Returns title and description of each text, and int64[texts] of 0 to 3."""
    rows = list(csv.reader(_opened(data / "ag_news_test.csv.gz")))
    return [f"{title} {text}" for _, title, text in rows], np.array([int(row[0]) - 1 for row in rows])


def sts(encoder: Encoder, data: Path) -> float:
    """See the top of this file."""
    first, second, scores = read_sts(data)
    vectors = unit(encoder.encode(first + second))
    return spearman((vectors[: len(first)] * vectors[len(first) :]).sum(axis=1), scores)


def sst2(encoder: Encoder, data: Path) -> float:
    """See the top of this file."""
    train, train_classes = read_sst2(data, "train")
    dev, dev_classes = read_sst2(data, "dev")
    vectors = encoder.encode(train)
    return logistic_accuracy(vectors, train_classes, encoder.encode(dev), dev_classes)


def ag_news(encoder: Encoder, data: Path) -> float:
    """See the top of this file."""
    texts, classes = read_ag_news(data)
    return neighbour_accuracy(encoder.encode(texts), classes)


def speeds(encoders: dict[str, Encoder], data: Path, rounds: int) -> dict[str, list[float]]:
    """Returns the documents/s of each bundle per round, after a warm-up round."""
    texts = read_ag_news(data)[0][:_SPEED_TEXTS]
    found: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds + 1):
        for name, encoder in encoders.items():
            started = time.perf_counter()
            encoder.encode(texts)
            found[name].append(len(texts) / (time.perf_counter() - started))
    return {name: values[1:] for name, values in found.items()}


def measure(bundles: Sequence[str], sets: Sequence[str], data: Path, rounds: int) -> list[list[str]]:
    """Returns the rows of the table, the header first."""
    encoders = {}
    for name in bundles:
        print(f"loading {name}", file=sys.stderr, flush=True)
        encoders[name] = Encoder(name)
    columns: dict[str, dict[str, str]] = {}
    functions = {"sts": sts, "sst2": sst2, "ag_news": ag_news}
    for kind in sets:
        if kind == "speed":
            continue
        columns[kind] = {}
        for name, encoder in encoders.items():
            columns[kind][name] = f"{functions[kind](encoder, data):.4f}"
            print(f"{kind} {name} {columns[kind][name]}", file=sys.stderr, flush=True)
    if "speed" in sets:
        columns |= _speed_columns(speeds(encoders, data, rounds))
    return [["bundle", *columns], *([name, *(c[name] for c in columns.values())] for name in encoders)]


def _speed_columns(found: dict[str, list[float]]) -> dict[str, dict[str, str]]:
    """Returns the cells with ratios per round to the last bundle."""
    last = list(found)[-1]
    times = {
        name: np.median([own / other for own, other in zip(values, found[last], strict=True)])
        for name, values in found.items()
    }
    return {
        "documents/s": {name: f"{np.median(values):,.0f}" for name, values in found.items()},
        f"times {Path(last).name}": {name: f"{value:.1f}" for name, value in times.items()},
    }


def _opened(path: Path) -> list[str]:
    """Returns the lines of a text file, gzipped.

    Raises:
        BenchmarkError: it does not exist.
    """
    if not path.is_file():
        raise BenchmarkError(f"{path} does not exist. Give the folder that contains it with --data.")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return list(stream)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    shared = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description="Measures what the vectors of bundles are worth.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--bundles", default="bert-mini,minilm", help="names or folders; ratios are to the last one"
    )
    parser.add_argument("--sets", default=",".join(_SETS), help="data sets to measure")
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the sets")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed measurement")
    flags = parser.parse_args(argv)
    sets = flags.sets.split(",")
    if unknown := sorted(set(sets) - set(_SETS)):
        parser.error(f"--sets {','.join(unknown)}: there are {', '.join(_SETS)}")
    try:
        rows = measure(flags.bundles.split(","), sets, flags.data, flags.rounds)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
