"""Measures what the precisions of a quantized bundle cost on data that its scales were not chosen with.

Run: ``python -m benchmarks.int8_quality --bundle DIR --precisions int8,int7 [--data DIR] --output F``. Writes
JSON: cosine to float32 over all AG News texts, and the two measures of ``benchmarks.quality`` in each.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measures import neighbour_accuracy, spearman, unit
from benchmarks.quality import read_ag_news, read_sts
from benchmarks.worker import ROOT
from model_bundle import Encoder
from model_bundle.base.machine import cpu_name


def measure(place: str, precisions: list[str], data: Path) -> dict[str, Any]:
    """Returns the figures by precision, float32 first."""
    vectors, figures = {}, {}
    for precision in ["float32", *precisions]:
        encoder = Encoder(place, precision=precision)
        vectors[precision], figures[precision] = _figures(encoder, data)
        cosines = (vectors[precision].astype(np.float64) * vectors["float32"]).sum(axis=1)
        figures[precision] |= {"min_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    return {
        "bundle": encoder.bundle.manifest.name,
        "digest": encoder.bundle.digest,
        "processor": cpu_name(),
        "num_texts": len(vectors["float32"]),
        "precisions": figures,
    }


def _figures(encoder: Encoder, data: Path) -> tuple[np.ndarray, dict[str, float]]:
    texts, classes = read_ag_news(data)
    first, second, scores = read_sts(data)
    news, pairs = unit(encoder.encode(texts)), unit(encoder.encode(first + second))
    similarities = (pairs[: len(first)] * pairs[len(first) :]).sum(axis=1)
    sts, ag_news = spearman(similarities, scores), neighbour_accuracy(news, classes)
    return news, {"sts": float(sts), "ag_news": float(ag_news)}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--precisions", default="int8")
    shared = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args()
    found = measure(flags.bundle, flags.precisions.split(","), flags.data)
    flags.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
