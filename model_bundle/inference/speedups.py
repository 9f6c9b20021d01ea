"""Measures how much faster each precision is on this machine for a model."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np

from model_bundle.base.machine import has_fast_bfloat16
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
    found: dict[Precision, float] = {}
    own = _seconds(bundle, request)
    for precision in others:
        with contextlib.suppress(ModelBundleError):
            found[precision] = own / _seconds(bundle, dataclasses.replace(request, precision=precision))
    return found


def _worth_trying(bundle: ModelBundle) -> list[Precision]:
    fast = {
        Precision.FLOAT32: True,
        Precision.BFLOAT16: has_fast_bfloat16(),
        Precision.INT8: True,
    }
    return [p for p in Precision if fast[p] and bundle.manifest.signature_of(p) is not None]


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
