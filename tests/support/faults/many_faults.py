"""Many faults over jobs of many documents.

``python -m tests.support.faults.many_faults --documents 100000 --seed 1``

Prints a row for each engine: faults, starts until the run was there, rows lost, doubled and different.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.support.faults import faults
from tests.support.models.tiny import build_tiny_bundle
from tests.support.runs.jobs import run_job, write_texts

_WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "home", "quick", "brown", "and", "of", "time")
_FLAGS = ["--id_column", "id", "--no_report", "--checkpoint_seconds", "0.5"]
_PLANS: dict[str, list[faults.Fault]] = {
    "multi-process": [faults.kill_worker, faults.stop_worker, faults.kill_launcher],
    "Prism": [faults.kill_engine, faults.kill_launcher],
    "Prism, worker pool": [faults.kill_worker, faults.kill_pool, faults.stop_worker, faults.kill_engine],
    "in-process, --isolate_model": [faults.kill_model, faults.stop_worker, faults.kill_model],
}


def main() -> int:
    """Runs them all; 1 if a row was lost, doubled or different."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often each engine has its faults")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _run(Path(folder), given.documents, given.rounds, given.seed)


def _run(folder: Path, num_documents: int, rounds: int, seed: int) -> int:
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(_WORDS, k=chance.randint(3, 20))) for _ in range(num_documents)]
    source, bundle = write_texts(folder / "in.jsonl", texts), build_tiny_bundle(folder / "tiny").path
    flags = ["--input", str(source), *_FLAGS]
    reference = run_job(folder / "reference", bundle, *flags)
    ids, vectors = faults.ids_and_vectors(reference.root)
    is_wrong = ids != [str(i) for i in range(num_documents)]
    columns = ("engine", "faults", "starts", "seconds", "lost", "doubled", "different", "unclear ends")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for engine, plan in _PLANS.items():
        started, output = time.monotonic(), folder / engine.replace(" ", "_")
        own = [*flags, *([] if "isolate" not in engine else ["--isolate_model"])]
        tally = faults.run_with_faults(output, bundle, own, engine.split(", --")[0], plan * rounds, seed)
        found_ids, found = faults.ids_and_vectors(output / "run")
        lost, doubled = len(set(ids) - set(found_ids)), len(found_ids) - len(set(found_ids))
        same = found_ids == ids
        differ = int((np.abs(np.array(found) - np.array(vectors)).max(axis=1) > 1e-5).sum()) if same else -1
        is_wrong = is_wrong or not same or differ > 0
        done = ", ".join(f"{n} {name}" for name, n in sorted(Counter(tally.faults).items()))
        seconds = round(time.monotonic() - started)
        faulted = f"{len(tally.faults)}: {done}"
        cells = (engine, faulted, tally.starts, seconds, lost, doubled, differ, len(tally.unclear))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        for said in tally.unclear:
            print(said, file=sys.stderr)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
