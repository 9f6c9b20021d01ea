"""Shared code of the model loops: texts to vectors in memory, timed in the same way."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.systems.protocol import claim_stdout, peak_memory_bytes, serve
from model_bundle.base.machine import num_cores

BATCH_SIZES = (16, 32, 64)
# Texts for choosing settings: enough for several batches of the largest size.
_SAMPLE_TEXTS = 512
_PRECISIONS = ["float32", "bfloat16", "int8", "int8_bfloat16", "int7"]


@dataclass
class Encoded:
    """Result of one pass over all texts.

    ``vectors``: float32[texts, dim]. ``num_tokens``: real tokens; ``num_padded_tokens``: cells computed.
    ``tokenize_seconds``, ``model_seconds``: time inside the tokenizer and inside the model; the rest of the
    pass is sorting, padding and gathering.
    """

    vectors: np.ndarray
    num_tokens: int
    num_padded_tokens: int
    tokenize_seconds: float
    model_seconds: float


class Loop(Protocol):
    """A loaded model. ``details`` are its settings, for the results."""

    details: dict[str, Any]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Computes the vectors of all texts, tokenizing included."""
        ...


@dataclass
class _Pass:
    """The vectors of the last pass, to be saved on request."""

    encoded: Encoded | None = None


@dataclass
class Choice:
    """The fastest of several settings; ``seconds`` is by setting."""

    best: str
    seconds: dict[str, float] = field(default_factory=dict)


def loop_parser() -> argparse.ArgumentParser:
    """Builds a parser with the flags of all loops."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list of strings")
    parser.add_argument("--model", type=Path, required=True, help="a sentence-transformers folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate files")
    parser.add_argument("--precision", choices=_PRECISIONS, required=True)
    return parser


def run_loop(
    flags: argparse.Namespace,
    load: Callable[[argparse.Namespace, Sequence[str]], Loop],
    packages: Sequence[str],
) -> None:
    """Loads a model and serves requests.

    ``encode`` runs all texts, ``save`` writes their vectors to ``path``; ``vectors`` writes those of other
    ``texts``.

    Args:
        flags: from ``loop_parser``.
        load: makes the loop; is given some of the texts to choose settings on.
        packages: whose versions are told.
    """
    answers = claim_stdout()
    texts: list[str] = json.loads(flags.texts.read_text(encoding="utf-8"))
    started = time.perf_counter()
    loop = load(flags, sample(texts, _SAMPLE_TEXTS))
    ready = {
        "load_seconds": time.perf_counter() - started,
        "details": loop.details,
        "versions": {name: version(name) for name in packages},
    }
    last = _Pass()

    def encode(_: Mapping[str, Any]) -> Mapping[str, Any]:
        reply, last.encoded = _timed(loop, texts)
        return reply

    def save(request: Mapping[str, Any]) -> Mapping[str, Any]:
        if last.encoded is None:
            raise ValueError("nothing has been encoded yet")
        np.save(request["path"], last.encoded.vectors)
        return {"shape": list(last.encoded.vectors.shape)}

    def vectors(request: Mapping[str, Any]) -> Mapping[str, Any]:
        others = json.loads(Path(request["texts"]).read_text(encoding="utf-8"))
        np.save(request["path"], loop.encode(others).vectors)
        return {}

    serve(answers, ready, {"encode": encode, "save": save, "vectors": vectors})


def _timed(loop: Loop, texts: Sequence[str]) -> tuple[dict[str, Any], Encoded]:
    started, cpu_started = time.perf_counter(), time.process_time()
    encoded = loop.encode(texts)
    reply = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "tokenize_seconds": encoded.tokenize_seconds,
        "model_seconds": encoded.model_seconds,
        "num_tokens": encoded.num_tokens,
        "num_padded_tokens": encoded.num_padded_tokens,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    return reply, encoded


def sample(texts: Sequence[str], count: int) -> list[str]:
    """Returns at most ``count`` texts at equal distances."""
    step = max(len(texts) // count, 1)
    return list(texts[::step][:count])


def choose(settings: Mapping[str, Callable[[], object]], clock: Callable[[], float] | None = None) -> Choice:
    """Runs every setting three times in turns and returns the fastest; the first run is a warm-up.

    On one core processor time counts, which others do not disturb.
    """
    clock = clock or (time.process_time if num_cores() == 1 else time.perf_counter)
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(3):
        for name, run in settings.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    best = {name: min(times[1:]) for name, times in seconds.items()}
    return Choice(min(best, key=lambda name: best[name]), best)
