"""Compares families of encoders at BERT-base's shape: what they cost beside BERT, and some beside peers."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import read_corpus
from benchmarks.models import Model, read_shape, unpack_minilm
from benchmarks.processes import run_timed
from benchmarks.registry import REFERENCE, check_names, loop_system
from benchmarks.results import new_results, publish
from benchmarks.spread import Spread, ratios
from benchmarks.summary import column
from benchmarks.worker import System, run_rounds, started

NAME = "families"
FAMILIES = ("bert", "mpnet", "electra", "albert", "modernbert", "deberta-v2")
_OURS = ("ours_float32", "ours_bfloat16")
_PEERS = (REFERENCE, "onnxruntime_float32")
_WITH_PEERS = ("mpnet", "modernbert", "deberta-v2")
# Float32 at this size takes a minute for so many on one core.
_DOCUMENTS = 256


def run(flags: argparse.Namespace, work: Path) -> None:
    """Builds each family with random weights, measures all in turns, and publishes."""
    check_names(_PEERS, flags.peers_python)
    corpus = read_corpus(flags.corpus)
    corpus = corpus.repeated(min(_DOCUMENTS, flags.documents))
    texts = corpus.write_json(work / "texts.json")
    minilm = unpack_minilm(work)
    models = {family: _model(family, minilm.folder, work, flags.peers_python) for family in FAMILIES}
    rounds: dict[str, list[dict[str, Any]]] = {}
    labels: dict[str, Any] = {}
    # Each beside BERT in the same rounds: all at once would not fit into memory.
    for family in FAMILIES[1:]:
        systems = [
            _system(family, kind, name, models[kind], texts, work, flags.peers_python)
            for kind, name in _measured(family)
        ]
        with started(systems, work) as workers:
            run_rounds(workers, 1)
            rounds |= run_rounds(workers, flags.rounds)
            labels |= {s.name: {"label": s.label, "ready": workers[s.name].ready} for s in systems}
    results = new_results(
        corpus=corpus.describe(),
        systems=labels,
        rounds=rounds,
    )
    publish(results, NAME, render(results), flags.output)


def _model(family: str, tokenizer: Path, work: Path, peers_python: Path) -> Model:
    """Builds a sentence-transformers folder and its bundle."""
    folder, bundle = work / family, work / f"{family}_bundle"
    make = [str(peers_python), "-m", "benchmarks.systems.random_family", family, str(tokenizer), str(folder)]
    run_timed(make, work / f"{family}_make.log")
    build = [sys.executable, "-m", "model_bundle", "build", "bert", str(folder), "--output", str(bundle)]
    run_timed(build, work / f"{family}_build.log")
    return Model(bundle, folder, read_shape(folder / "config.json"))


def _measured(family: str) -> list[tuple[str, str]]:
    """Returns models and systems: BERT and the family here, and the family in its peers, if it has any."""
    peers = [(family, name) for name in (_PEERS if family in _WITH_PEERS else ())]
    return [*((kind, name) for kind in (FAMILIES[0], family) for name in _OURS), *peers]


def _system(
    group: str, family: str, name: str, model: Model, texts: Path, work: Path, peers_python: Path
) -> System:
    system = loop_system(name, model, texts, work, peers_python)
    label = family if family == group else f"{family} beside {group}"
    return dataclasses.replace(system, name=f"{group}/{family}/{name}", label=f"{label}, {system.label}")


def render(results: Mapping[str, Any]) -> str:
    """Returns the Markdown tables."""
    rounds = results["rounds"]
    header = ["model and system", "tokens per processor second", "of this project's BERT", "peak MB"]
    rows = []
    for name, answers in rounds.items():
        group, _, own = name.split("/")
        seconds = column(answers, "cpu_seconds")
        base = column(rounds[f"{group}/{FAMILIES[0]}/{own if own in _OURS else _OURS[0]}"], "cpu_seconds")
        rows.append(
            [
                results["systems"][name]["label"],
                tables.spread(Spread.of([answers[0]["num_tokens"] / s for s in seconds])),
                tables.spread(ratios(base, seconds)),
                tables.number(max(answer["peak_memory_bytes"] for answer in answers) / 1e6),
            ]
        )
    documents = f"{results['corpus']['num_documents']:,} documents:"
    return "\n\n".join([tables.machine_lines(results), documents, tables.markdown(header, rows)])
