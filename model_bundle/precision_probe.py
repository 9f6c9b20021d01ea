"""How much faster bfloat16 is here, for this model: measured, not looked up."""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np

from model_bundle.bundle import ModelBundle
from model_bundle.errors import ModelBundleError
from model_bundle.feeding import example_numbers
from model_bundle.manifest import Precision
from model_bundle.request import EncodeRequest
from model_bundle.runtime import Runtime
from model_bundle.shared_runtime import shared_runtime
from model_bundle.text import text_input

_ROUNDS = 3
_TEXTS = 64
_WORDS = 40


def measure_bfloat16_speedup(place: str | Path, request: EncodeRequest) -> float | None:
    """Times a batch of ordinary length in both precisions, alternating.

    Returns:
        float32 time over bfloat16 time, or None where the bundle cannot run in bfloat16.
    """
    bundle = ModelBundle.open(place)
    try:
        runtimes = [
            shared_runtime(bundle, dataclasses.replace(request, precision=precision))
            for precision in Precision
        ]
    except ModelBundleError:
        return None
    words = "the of market said new people team space first game science company two world"
    text = " ".join((words.split() * _WORDS)[:_WORDS])
    inputs = text_input(bundle.path, bundle.manifest, request.max_tokens, request.prompt)
    texts = np.arange(_TEXTS)
    batch = inputs.prepare([text] * _TEXTS).batch(texts) | example_numbers(bundle.manifest.inputs, texts)
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS + 1):
        for runtime, times in zip(runtimes, seconds, strict=True):
            times.append(_time(runtime, batch))
    slow, fast = (statistics.median(times[1:]) for times in seconds)
    return slow / fast


def _time(runtime: Runtime, batch: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    runtime.run(batch)
    return time.perf_counter() - started
