"""Measures what the precisions of quantized bundles cost on data that their scales were not chosen with.

Run: ``python -m benchmarks.int8_quality [--bundles minilm,bert-mini] [--precisions int8,int7] [--data DIR]
--output F``. Bundles without int8 are quantized first, with the package's sample. Writes JSON after each
bundle: cosine to float32 over all AG News texts, and the two measures of ``benchmarks.quality`` in each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measures import neighbour_accuracy, spearman, unit
from benchmarks.processes import run_timed
from benchmarks.quality import read_ag_news, read_sts
from benchmarks.results import new_results
from benchmarks.worker import ROOT
from model_bundle import Encoder
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision


def measure(place: str | Path, precisions: Sequence[str], data: Path) -> dict[str, Any]:
    """Returns the figures by precision, float32 first; those that a bundle could not get are left out."""
    manifest = ModelBundle.open(place).manifest
    has = [name for name in precisions if manifest.signature_of(Precision(name)) is not None]
    vectors, figures = {}, {}
    for precision in ["float32", *has]:
        print(f"{manifest.name}, {precision} …", flush=True)
        encoder = Encoder(place, precision=precision)
        vectors[precision], figures[precision] = _figures(encoder, data)
        cosines = (vectors[precision].astype(np.float64) * vectors["float32"]).sum(axis=1)
        figures[precision] |= {"min_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    return {
        "bundle": manifest.name,
        "digest": encoder.bundle.digest,
        "left_in_float": manifest.int8.layers_in_float() if manifest.int8 else {},
        "num_texts": len(vectors["float32"]),
        "precisions": figures,
    }


def quantized(name: str, work: Path) -> str | Path:
    """Returns a bundle that has int8: the named one, or what the package's sample makes of it."""
    if ModelBundle.open(name).manifest.int8 is not None:
        return name
    output = work / Path(name).name
    print(f"quantizing {name} …", flush=True)
    command = [sys.executable, "-m", "model_bundle", "quantize", name, "--output", str(output)]
    run_timed(command, work / "quantize.log")
    return output


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
    parser.add_argument("--bundles", default="minilm,bert-mini")
    parser.add_argument("--precisions", default="int8,int8_bfloat16,int7")
    shared = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args()
    read_sts(flags.data)  # a missing file is found before the work
    results = new_results(bundles=[])
    with tempfile.TemporaryDirectory(prefix="int8-quality-") as work:
        for name in flags.bundles.split(","):
            place = quantized(name, Path(work))
            results["bundles"].append(measure(place, flags.precisions.split(","), flags.data))
            flags.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
