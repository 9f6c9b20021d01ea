"""Runs this project and its peers on the same texts: model loops, then jobs from text to Parquet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpus import Corpus
from benchmarks.end_to_end import JobInput, run_job, run_job_rounds
from benchmarks.fidelity import Fidelity, compare, read_vectors
from benchmarks.flops import text_flops
from benchmarks.loop_quality import QualityTexts, measure_quality
from benchmarks.models import Model, token_lengths
from benchmarks.registry import (
    JOB_NAMES,
    LOOP_NAMES,
    PEAK,
    REFERENCE,
    Job,
    find_job,
    is_ours,
    loop_system,
    peak_system,
)
from benchmarks.worker import Worker, run_rounds, started

# Batch size of MLTransform if sentence-transformers was not measured: its default.
_DEFAULT_BATCH_SIZE = 32


@dataclass(frozen=True)
class Setup:
    """Settings of a comparison.

    ``work`` is a folder for intermediate files. ``quality`` says how much of it is measured. ``held_to``: the
    best instructions that loops may use.
    """

    systems: tuple[str, ...]
    model: Model
    work: Path
    peers_python: Path
    quality: QualityTexts
    held_to: str | None = None

    @property
    def loops(self) -> list[str]:
        """The selected model loops, in the order of the registry."""
        return [name for name in LOOP_NAMES if name in self.systems]

    @property
    def jobs(self) -> list[str]:
        """The selected jobs."""
        return [name for name in JOB_NAMES if name in self.systems]


def compare_loops(setup: Setup, corpus: Corpus, num_rounds: int) -> dict[str, Any]:
    """Measures the model loops and the machine's peak, interleaved.

    Returns:
        ``systems``: label and details of each. ``warm_up`` and ``rounds``: answers by system.
        ``fidelity`` and ``quality`` by system. ``num_documents``, ``num_tokens``, ``flops`` of one round.
    """
    texts = corpus.write_json(setup.work / "texts.json")
    lengths = token_lengths(setup.model.bundle, corpus.texts)
    systems = [loop_system(name, setup.model, texts, setup.work, setup.peers_python) for name in setup.loops]
    with started([*systems, peak_system()], setup.work, setup.held_to) as workers:
        print("warming up", flush=True)
        warm_up = run_rounds(workers, 1)
        vectors = _save_vectors(workers, setup.work)
        rounds = run_rounds(workers, num_rounds)
        quality = measure_quality(workers, setup.quality, setup.work)
        ready = {name: worker.ready for name, worker in workers.items()}
    return {
        "systems": {s.name: {"label": s.label, "ready": ready[s.name]} for s in systems},
        "warm_up": warm_up,
        "rounds": rounds,
        "fidelity": _as_data(_fidelity(vectors)),
        "quality": quality,
        "num_documents": len(corpus.texts),
        "num_tokens": int(lengths.sum()),
        "flops": text_flops(setup.model.shape, lengths),
    }


def _save_vectors(workers: Mapping[str, Worker], work: Path) -> dict[str, Path]:
    paths = {name: work / f"{name}.npy" for name in workers if name != PEAK}
    for name, path in paths.items():
        workers[name].ask("save", path=str(path))
    return paths


def _fidelity(paths: Mapping[str, Path]) -> dict[str, Fidelity]:
    if REFERENCE not in paths:
        return {}
    reference = np.load(paths[REFERENCE])
    return {name: compare(np.load(path), reference) for name, path in paths.items() if name != REFERENCE}


def _as_data(fidelity: Mapping[str, Fidelity]) -> dict[str, dict[str, float]]:
    return {name: dataclasses.asdict(value) for name, value in fidelity.items()}


def try_jobs(setup: Setup, corpus: Corpus) -> None:
    """Runs every job on one document and reads its row, to find broken jobs before the long runs.

    Raises:
        BenchmarkError: a job failed.
    """
    one = corpus.repeated(1)
    lines = JobInput.write(one, setup.work)
    for job in _jobs(setup, None):
        print(f"trying {job.label} …", flush=True)
        run_job(job, lines.one_line, setup.work)
        read_vectors(setup.work / job.name, one.texts)


def _jobs(setup: Setup, batch_size: int | None) -> list[Job]:
    size = batch_size or _DEFAULT_BATCH_SIZE
    return [find_job(name, setup.model, setup.peers_python, size) for name in setup.jobs]


def compare_jobs(
    setup: Setup, loop_corpus: Corpus, corpus: Corpus, num_rounds: int, batch_size: int | None
) -> dict[str, Any]:
    """Measures jobs from text to Parquet, with our own loops between them.

    Args:
        loop_corpus: texts of the loops; must start with the same texts as ``corpus``.
        corpus: texts of the jobs.
        batch_size: the best one of sentence-transformers, if it was measured.

    Returns:
        ``labels``, ``rounds`` by job (and by ``loop_PRECISION``), ``fidelity`` of each job's rows,
        ``num_documents``, ``num_loop_documents``.
    """
    jobs = _jobs(setup, batch_size)
    texts = loop_corpus.write_json(setup.work / "loop_texts.json")
    lines = JobInput.write(corpus, setup.work)
    precisions = [name.removeprefix("job_") for name in setup.jobs if is_ours(name)]
    systems = [
        loop_system(f"ours_{precision}", setup.model, texts, setup.work, setup.peers_python)
        for precision in precisions
    ]
    with started(systems, setup.work) as workers:
        run_rounds(workers, 1)
        loops = {name.removeprefix("ours_"): worker for name, worker in workers.items()}
        rounds = run_job_rounds(jobs, loops, lines, num_rounds, setup.work)
    return {
        "labels": {job.name: job.label for job in jobs},
        "rounds": rounds,
        "fidelity": _as_data(_job_fidelity(setup, corpus)),
        "num_documents": len(corpus.texts),
        "num_loop_documents": len(loop_corpus.texts),
    }


def _job_fidelity(setup: Setup, corpus: Corpus) -> dict[str, Fidelity]:
    """Compares the rows of every job with the reference loop's vectors; repeated texts share one."""
    path = setup.work / f"{REFERENCE}.npy"
    found = {name: read_vectors(setup.work / name, corpus.texts) for name in setup.jobs}
    if not path.is_file():
        return {}
    reference = np.load(path)
    rows = np.arange(len(corpus.texts)) % len(reference)
    return {name: compare(vectors, reference[rows]) for name, vectors in found.items()}


def best_batch_size(loops: Mapping[str, Any] | None) -> int | None:
    """Returns the batch size that sentence-transformers was fastest with."""
    chosen: Sequence[str] = ()
    if loops is not None and REFERENCE in loops["systems"]:
        chosen = loops["systems"][REFERENCE]["ready"]["details"]["setting"].split()
    return int(chosen[-1]) if chosen else None
