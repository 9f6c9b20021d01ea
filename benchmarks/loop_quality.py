"""What the vectors of measured systems are worth: the STS benchmark and neighbours on AG News."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measures import neighbour_accuracy, spearman, unit
from benchmarks.quality import read_ag_news, read_sts
from benchmarks.registry import PEAK
from benchmarks.worker import Worker

Quality = dict[str, dict[str, float]]


@dataclass(frozen=True)
class QualityTexts:
    """How much is measured: ``data`` is the folder of the sets, None for nothing.

    ``documents``: news texts among which neighbours are looked for.
    """

    data: Path | None = None
    documents: int = 2_000


def measure_quality(workers: Mapping[str, Worker], texts: QualityTexts, work: Path) -> Quality:
    """Asks every system for the vectors of labelled texts.

    Returns:
        By system: ``sts``, Spearman's correlation on the development set, and ``ag_news``, the share of texts
        whose five nearest neighbours mostly share their class. Empty if nothing was asked for.
    """
    if texts.data is None:
        return {}
    first, second, scores = read_sts(texts.data)
    news, classes = read_ag_news(texts.data)
    step = max(len(news) // texts.documents, 1)
    news, classes = news[::step][: texts.documents], classes[::step][: texts.documents]
    path, answer = work / "quality.json", work / "quality.npy"
    path.write_text(json.dumps([*first, *second, *news], ensure_ascii=False), encoding="utf-8")
    found: Quality = {}
    for name, worker in workers.items():
        if name == PEAK:
            continue
        print(f"quality of {worker.system.label} …", flush=True)
        worker.ask("vectors", texts=str(path), path=str(answer))
        vectors = unit(np.load(answer))
        one, other, rest = np.split(vectors, [len(first), 2 * len(first)])
        found[name] = {
            "sts": spearman((one * other).sum(axis=1), scores),
            "ag_news": neighbour_accuracy(rest, classes),
        }
    return found
