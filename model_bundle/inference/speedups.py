"""Measures how much faster each precision is on this machine for a model."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model_bundle.base.cache import cache_dir, staging
from model_bundle.base.machine import cpu_name, num_cores
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import canonical_json
from model_bundle.bundle.specs import Precision
from model_bundle.errors import ModelBundleError
from model_bundle.inference.precision import fast_precisions
from model_bundle.runtime.inputs import example_numbers
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.shared import release_last, shared_runtime
from model_bundle.runtime.tensorflow_runtime import Runtime
from model_bundle.text import text_input

_ROUNDS = 3
_TEXTS = 64
_WORDS = 40


def measure_speedups(place: str | Path, request: EncodeRequest) -> dict[Precision, float]:
    """Times a batch of ordinary length in each precision worth it, with one model in memory at a time.

    Returns:
        The time of the request's own precision divided by that of each other one that the bundle has a graph
        for, that the processor is fast at, and in which it gives its golden vectors here.
    """
    bundle = ModelBundle.open(place)
    others = [precision for precision in _worth_trying(bundle) if precision is not request.precision]
    if not others:
        return {}
    found = {request.precision: _seconds(bundle, request)}
    for precision in others:
        with contextlib.suppress(ModelBundleError):
            found[precision] = _seconds(bundle, dataclasses.replace(request, precision=precision))
    _remember(bundle, found)
    return {
        precision: found[request.precision] / found[precision] for precision in others if precision in found
    }


def known_seconds(bundle: ModelBundle) -> dict[Precision, float]:
    """Returns what ``measure_speedups`` found last for this bundle and processor; empty if nothing."""
    try:
        found = json.loads(_place(bundle).read_bytes())
        return {Precision(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(bundle: ModelBundle, seconds: Mapping[Precision, float]) -> None:
    path = _place(bundle)
    # Without a cache, the rule by instructions decides.
    with contextlib.suppress(OSError), staging(path.parent) as folder:
        (folder / path.name).write_bytes(canonical_json({str(name): each for name, each in seconds.items()}))
        (folder / path.name).replace(path)


def _place(bundle: ModelBundle) -> Path:
    facts = {"bundle": bundle.digest, "processor": cpu_name(), "cores": num_cores()}
    return cache_dir() / "speeds" / f"{hashlib.sha256(canonical_json(facts)).hexdigest()[:32]}.json"


def _worth_trying(bundle: ModelBundle) -> list[Precision]:
    return [p for p in Precision if p in fast_precisions() and bundle.manifest.signature_of(p) is not None]


def _seconds(bundle: ModelBundle, request: EncodeRequest) -> float:
    """Returns the median seconds per batch; frees the model unless it is in use elsewhere."""
    runtime = shared_runtime(bundle, request)
    words = "the of market said new people team space first game science company two world"
    text = " ".join((words.split() * _WORDS)[:_WORDS])
    inputs = text_input(bundle.path, bundle.manifest, request.max_tokens, request.prompt)
    texts = np.arange(_TEXTS)
    batch = inputs.prepare([text] * _TEXTS).batch(texts) | example_numbers(bundle.manifest.inputs, texts)
    times = [_time(runtime, batch) for _ in range(_ROUNDS + 1)]
    del runtime
    release_last()
    return statistics.median(times[1:])


def _time(runtime: Runtime, batch: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    runtime.run(batch)
    return time.perf_counter() - started
