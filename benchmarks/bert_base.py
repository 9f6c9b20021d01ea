"""Compares BERT-base's shape and a multilingual one with MiniLM's: speed by precision, memory, start."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import Corpus, read_corpus
from benchmarks.flops import text_flops
from benchmarks.models import Model, read_shape, token_lengths, unpack_minilm, with_int8
from benchmarks.processes import run_timed
from benchmarks.registry import PEAK, loop_system, peak_system
from benchmarks.results import new_results, publish
from benchmarks.spread import Spread, ratios
from benchmarks.summary import column, peaks, precision_of
from benchmarks.systems.loops import sample
from benchmarks.systems.quantize_peers import CALIBRATION_NAME
from benchmarks.worker import System, run_rounds, started
from model_bundle.base.machine import has_fast_bfloat16, has_fast_int8

NAME = "bert_base"
# Long enough for a steady speed, short enough that float32 at this size stays below half an hour.
_DOCUMENTS = 1024
_RANDOM = ("bert_base", "multilingual")
_CALIBRATION_TEXTS = 600


def run(flags: argparse.Namespace, work: Path) -> None:
    """Builds the large models, measures all in every precision, beside OpenVINO if there, and publishes."""
    corpus = read_corpus(flags.corpus)
    minilm = unpack_minilm(work)
    if has_fast_int8():
        minilm = with_int8(minilm, sample(corpus.texts, _CALIBRATION_TEXTS), work)
    models = {"minilm": minilm} | {name: _random_model(name, minilm, work) for name in _RANDOM}
    corpus = corpus.repeated(min(_DOCUMENTS, flags.documents))
    systems = [
        system for name, model in models.items() for system in _systems(name, model, corpus, flags, work)
    ]
    with started([*systems, peak_system()], work) as workers:
        run_rounds(workers, 1)
        rounds = run_rounds(workers, flags.rounds)
        ready = {name: worker.ready for name, worker in workers.items()}
    lengths = token_lengths(minilm.bundle, corpus.texts)
    results = new_results(
        corpus=corpus.describe(),
        flops={name: text_flops(model.shape, lengths) for name, model in models.items()},
        systems={s.name: {"label": s.label, "ready": ready[s.name]} for s in systems},
        rounds=rounds,
    )
    publish(results, NAME, render(results), flags.output)


def _random_model(name: str, minilm: Model, work: Path) -> Model:
    output = work / name
    command = [sys.executable, "-m", "benchmarks.systems.random_bert", name, str(minilm.folder), str(output)]
    run_timed(command, work / f"build-{name}.log")
    folder = output / "model"
    return Model(output / "bundle", folder, read_shape(folder / "config.json"))


def _systems(name: str, model: Model, corpus: Corpus, flags: argparse.Namespace, work: Path) -> list[System]:
    """Returns ours in the precisions that the processor is fast at, and OpenVINO's if the peers are there."""
    folder = work / f"loops-{name}"
    folder.mkdir()
    texts = corpus.write_json(folder / "texts.json")
    shutil.copyfile(texts, folder / CALIBRATION_NAME)
    ours = ["float32", "bfloat16"]
    if has_fast_int8():
        ours += ["int8", "int8_bfloat16"] if has_fast_bfloat16() else ["int8"]
    loops = [f"ours_{precision}" for precision in ours]
    if flags.peers_python.is_file():
        loops += ["openvino_float32", "openvino_int8"]
    found = []
    for loop in loops:
        system = loop_system(loop, model, texts, folder, flags.peers_python.absolute())
        found.append(dataclasses.replace(system, name=f"{name}/{loop}", label=f"{name}, {system.label}"))
    return found


def render(results: Mapping[str, Any]) -> str:
    """Returns the Markdown tables."""
    best = peaks(results["rounds"])
    header = [
        *("model, system", "tokens/s in the model", "times float32, by processor time"),
        *("of peak, model's shape", "of peak, large", "imports s", "first result s after them", "peak MB"),
    ]
    rows = [_row(name, results, best) for name in results["rounds"] if name != PEAK]
    documents = f"{results['corpus']['num_documents']:,} documents:"
    table = tables.markdown(header, rows)
    return "\n\n".join([tables.machine_lines(results), documents, table, tables.peak_line(best)])


def _row(name: str, results: Mapping[str, Any], best: Mapping[str, Spread]) -> list[str]:
    answers, system = results["rounds"][name], results["systems"][name]
    model, _, loop = name.partition("/")
    seconds = column(answers, "model_seconds")
    speeds = Spread.of([answers[0]["num_tokens"] / s for s in seconds])
    in_float = column(results["rounds"][f"{model}/ours_float32"], "cpu_seconds")
    flops = results["flops"][model] / Spread.of(seconds).median
    product = precision_of(loop).split("_")[0]
    shares = [best.get(f"{product}/{shape}") for shape in ("model", "large")]
    details = system["ready"]["details"]
    times = [details.get(key) for key in ("import_seconds", "first_result_seconds")]
    return [
        system["label"],
        tables.spread(speeds),
        tables.spread(ratios(in_float, column(answers, "cpu_seconds"))),
        *(tables.percent(None if peak is None else flops / peak.median) for peak in shares),
        *("-" if value is None else tables.number(value) for value in times),
        tables.number(max(answer["peak_memory_bytes"] for answer in answers) / 1e6),
    ]
