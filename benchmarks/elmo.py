"""Compares ELMo with simple-elmo: random weights of the published shapes, mean vectors of documents, words/s.

Run: ``python -m benchmarks.elmo --peers_python PYTHON [--size original] [--documents 400] [--rounds 3]``,
where PYTHON has ``simple-elmo==0.9.2``, ``tensorflow`` and ``tf-keras``. Prints a Markdown table. The peer
runs only the first ``--peer_documents``, because it is slow and its speed does not depend on their number.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.corpus import Corpus, read_corpus
from benchmarks.errors import BenchmarkError
from benchmarks.fidelity import compare
from benchmarks.flags import check_quiet
from benchmarks.spread import Spread, ratios
from benchmarks.worker import System, run_rounds, started

_FILTERS = [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]]
# Cell, projection, highways. Source: the options.json of elmo_2x4096_512_2048cnn_2xhighway and of
# elmo_2x1024_128_2048cnn_1xhighway.
_SIZES = {"original": (4096, 512, 2), "small": (1024, 128, 1)}
_PEER = "simple_elmo"


def published_options(size: str) -> dict[str, Any]:
    """Returns the ``options.json`` of one of the published models."""
    cell, projection, highways = _SIZES[size]
    cnn = {"activation": "relu", "embedding": {"dim": 16}, "filters": _FILTERS, "n_highway": highways}
    lstm = {"cell_clip": 3, "dim": cell, "n_layers": 2, "proj_clip": 3, "projection_dim": projection}
    return {
        "char_cnn": cnn | {"n_characters": 262, "max_characters_per_token": 50},
        "lstm": lstm | {"use_skip_connections": True},
    }


def write_model(size: str, folder: Path) -> None:
    """Writes ``options.json`` and ``model.hdf5`` with random weights that keep activations in their range."""
    import h5py

    from model_bundle.builders.elmo.bilm_files import read_options
    from model_bundle.builders.graphs.elmo_options import weight_shapes

    folder.mkdir(parents=True, exist_ok=True)
    options = folder / "options.json"
    options.write_text(json.dumps(published_options(size)))
    random = np.random.default_rng(1)
    with h5py.File(folder / "model.hdf5", "w") as file:
        for name, shape in weight_shapes(read_options(options)).items():
            fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 100
            scale = 1.0 if name == "char_embed" else 1.0 / np.sqrt(fan_in)
            file[name] = (scale * random.standard_normal(shape, np.float32)).astype(np.float32)


def systems(flags: argparse.Namespace, corpus: Corpus, work: Path) -> list[System]:
    """Returns our system in both precisions, and the peer."""
    model = work / "model"
    texts = corpus.write_json(work / "texts.json")
    few = corpus.repeated(flags.peer_documents).write_json(work / "few.json")
    ours = [
        System(
            f"ours_{precision}",
            f"this project, {precision}",
            (
                *(sys.executable, "-m", "benchmarks.systems.elmo_ours"),
                *("--texts", str(texts), "--model", str(model)),
                *("--work", str(work), "--precision", precision),
            ),
        )
        for precision in ("float32", "bfloat16")
    ]
    if flags.peers_python is None:
        return ours
    command = (
        *(str(flags.peers_python.absolute()), "-m", "benchmarks.systems.simple_elmo_loop"),
        *("--texts", str(few), "--model", str(model), "--work", str(work), "--precision", "float32"),
    )
    return [*ours, System(_PEER, "simple-elmo 0.9.2, batch 32", command)]


def measure(flags: argparse.Namespace, work: Path) -> str:
    """Measures one size and returns the table."""
    write_model(flags.size, work / "model")
    corpus = read_corpus(flags.corpus).repeated(flags.documents)
    chosen = systems(flags, corpus, work)
    with started(chosen, work) as workers:
        run_rounds(workers, 1)
        rounds = run_rounds(workers, flags.rounds)
        for name, worker in workers.items():
            worker.ask("save", path=str(work / f"{name}.npy"))
    vectors = {system.name: np.load(work / f"{system.name}.npy") for system in chosen}
    return render(flags.size, {system.name: system.label for system in chosen}, rounds, vectors)


def render(
    size: str,
    labels: Mapping[str, str],
    rounds: Mapping[str, Sequence[Mapping[str, Any]]],
    vectors: Mapping[str, np.ndarray],
) -> str:
    """Returns the Markdown table, with ratios of words/s by wall time and by processor time, per round."""
    header = ["system", "words/s", "relative throughput", "by processor time", "lowest cosine", "peak MB"]
    rows = []
    for name, label in labels.items():
        wall, cpu = speeds(rounds[name], "seconds"), speeds(rounds[name], "cpu_seconds")
        times = ["", ""]
        if _PEER in rounds and name != _PEER:
            peer = rounds[_PEER]
            times = [
                tables.spread(ratios(wall, speeds(peer, "seconds"))),
                tables.spread(ratios(cpu, speeds(peer, "cpu_seconds"))),
            ]
        fidelity = compare(vectors[name], vectors["ours_float32"][: len(vectors[name])])
        memory = max(answer["peak_memory_bytes"] for answer in rounds[name]) / 1e6
        rows.append(
            [
                label,
                tables.spread(Spread.of(wall)),
                *times,
                f"{fidelity.min_cosine:.5f}",
                tables.number(memory),
            ]
        )
    others = max((a["others_share"] or 0.0 for answers in rounds.values() for a in answers), default=0.0)
    return f"ELMo, {size}; others' load up to {others:.0%}\n\n" + tables.markdown(header, rows)


def speeds(answers: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Returns the words per second of every round, by ``seconds`` or ``cpu_seconds``."""
    return [answer["num_tokens"] / answer[key] for answer in answers]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elmo", description=__doc__)
    parser.add_argument("--size", choices=sorted(_SIZES), default="original")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--peer_documents", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path, help="as in python -m benchmarks.run")
    parser.add_argument(
        "--peers_python", type=Path, help="interpreter with the peer (default: measure only ours)"
    )
    flags = parser.parse_args(argv)
    try:
        check_quiet()
        with tempfile.TemporaryDirectory(prefix="benchmark-elmo-") as work:
            print(measure(flags, Path(work)))
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
