"""Measures how much faster bfloat16 is on this machine for a model."""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import Precision
from model_bundle.errors import ModelBundleError
from model_bundle.runtime.inputs import example_numbers
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.shared import release_last, shared_runtime
from model_bundle.runtime.tensorflow_runtime import Runtime
from model_bundle.text import text_input

_ROUNDS = 3
_TEXTS = 64
_WORDS = 40


def measure_bfloat16_speedup(place: str | Path, request: EncodeRequest) -> float | None:
    """Times a batch of ordinary length in both precisions, with one model in memory at a time.

    Returns:
        float32 time divided by bfloat16 time, or None if the bundle cannot run in bfloat16.
    """
    bundle = ModelBundle.open(place)
    try:
        slow, fast = (
            _seconds(bundle, dataclasses.replace(request, precision=precision)) for precision in Precision
        )
    except ModelBundleError:
        return None
    return slow / fast


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
