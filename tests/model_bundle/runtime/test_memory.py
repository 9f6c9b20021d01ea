"""The guard against running out of memory, over an allocator that behaves as TensorFlow's does."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_bundle.errors import ModelMemoryError
from model_bundle.runtime.memory import AT_ONCE_TOKENS, BLOCKS_SAVE, MemoryGuard
from model_bundle.runtime.tensorflow_setup import MEMORY_CAP, ONEDNN
from tests.support.examples import examples
from tests.support.runs.jobs import PROJECT

WEIGHTS = 40_000_000
# Those of the graphs, which import TensorFlow: see test_long_attention.py.
MAX_AT_ONCE, QUERIES = AT_ONCE_TOKENS, AT_ONCE_TOKENS // BLOCKS_SAVE


class Allocator:
    """What a model of given costs needs; over the cap the process would be gone.

    ``in_blocks``: attention of texts over 1,024 tokens is computed some queries at a time.
    """

    def __init__(self, cap: int, per_cell: float, per_square: float, *, in_blocks: bool = False) -> None:
        self.cap, self.per_cell, self.per_square = cap, per_cell, per_square
        self.in_blocks = in_blocks
        self.current = self.peak = 0
        self.num_texts: list[int] = []
        api = SimpleNamespace(get_memory_info=self._info, reset_memory_stats=self._reset)
        self.tensorflow = SimpleNamespace(config=SimpleNamespace(experimental=api))

    def needed(self, num_texts: int, longest: int) -> float:
        queries = QUERIES if self.in_blocks and longest > MAX_AT_ONCE else longest
        return num_texts * longest * (self.per_cell + queries * self.per_square)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        num_texts, longest = inputs["ids"].shape
        self.num_texts.append(num_texts)
        self.current = WEIGHTS  # packed by the first call, and kept
        self.peak = int(self.current + self.needed(num_texts, longest))
        assert self.peak <= self.cap, "the process would have crashed"
        return {"out": np.zeros((num_texts, 1))}

    def _info(self, _: str) -> dict[str, int]:
        return {"current": self.current, "peak": self.peak}

    def _reset(self, _: str) -> None:
        self.peak = self.current


def _batch(num_texts: int, longest: int) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(np.int32(1), (num_texts, longest)) for name in ("ids", "mask")}


@settings(max_examples=examples(300), deadline=None)
@given(
    per_cell=st.floats(0, 50_000),
    per_square=st.floats(0, 500),
    free_mb=st.integers(20, 4_000),
    batches=st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 2_000)), max_size=12),
    least=st.integers(1, 3),
    in_blocks=st.booleans(),
)
@example(  # found by hand: long texts first, then as many cells of shorter ones
    per_cell=10_000, per_square=100, free_mb=400, batches=[(1, 2048), (1, 4096), (4, 1024)], least=1,
    in_blocks=True,
)  # fmt: skip
def test_no_batch_goes_over_the_cap_and_no_text_that_clearly_fits_is_refused(
    per_cell: float,
    per_square: float,
    free_mb: int,
    batches: list[tuple[int, int]],
    least: int,
    in_blocks: bool,
) -> None:
    cap = WEIGHTS + free_mb * 1_000_000
    allocator = Allocator(cap, per_cell, per_square, in_blocks=in_blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMORY_CAP, str(cap))
        guard = MemoryGuard(allocator.tensorflow, least)
    guard.run(allocator.run, _batch(4, 4))
    for wanted, longest in batches:
        num_texts = max(wanted, least)  # the caller fills up
        try:
            guard.run(allocator.run, _batch(num_texts, longest))
            assert allocator.num_texts[-1] == num_texts
        except ModelMemoryError:
            # Larger batches are halved by the caller. Trials stop at two thirds, a factor of 2.25;
            # small allocations are guessed.
            if num_texts == least and not (in_blocks and longest > MAX_AT_ONCE):
                assert allocator.needed(least, longest) * 4 + 16_000_000 > cap - WEIGHTS
    assert min(allocator.num_texts) >= least


def test_without_a_cap_everything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MEMORY_CAP, raising=False)
    allocator = Allocator(10**15, 1e6, 1e6)
    guard = MemoryGuard(allocator.tensorflow)
    guard.run(allocator.run, _batch(1, 1))
    guard.run(allocator.run, _batch(1000, 500))
    assert allocator.num_texts == [1, 1000]


def test_a_refusal_says_what_was_needed_and_what_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY_CAP, str(WEIGHTS + 100_000_000))
    allocator = Allocator(WEIGHTS + 100_000_000, 10_000, 0)
    guard = MemoryGuard(allocator.tensorflow)
    guard.run(allocator.run, _batch(64, 64))
    with pytest.raises(ModelMemoryError, match=rf"1024 x 64 would need about \d+ MB.*{MEMORY_CAP}"):
        guard.run(allocator.run, _batch(1024, 64))
    assert max(allocator.num_texts) < 1024


class SharedAllocator(Allocator):
    """The same for batches that run at the same time."""

    def __init__(self, cap: int, per_cell: float) -> None:
        super().__init__(cap, per_cell, 0.0)
        self.lock = threading.Lock()
        self.most_at_once = self._running = 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        num_texts, longest = inputs["ids"].shape
        needed = int(self.needed(num_texts, longest))
        with self.lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            self.current += needed
            self.peak = max(self.peak, self.current)
            assert self.peak <= self.cap, "the process would have crashed"
        time.sleep(0.0005)
        with self.lock:
            self._running -= 1
            self.current -= needed
        return {"out": np.zeros((num_texts, 1))}


@settings(max_examples=examples(20), deadline=None)
@given(
    batches=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 100)), min_size=20, max_size=60),
    free_mb=st.integers(30, 300),
)
def test_batches_beside_each_other_do_not_go_over_the_cap(
    batches: list[tuple[int, int]], free_mb: int
) -> None:
    allocator = SharedAllocator(free_mb * 1_000_000, per_cell=10_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMORY_CAP, str(allocator.cap))
        guard = MemoryGuard(allocator.tensorflow)

    def run(batch: tuple[int, int]) -> None:
        with contextlib.suppress(ModelMemoryError):
            guard.run(allocator.run, _batch(*batch))

    run((1, 4))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, batches))


def test_batches_like_one_that_was_measured_run_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = SharedAllocator(1_000_000_000, per_cell=10_000)
    monkeypatch.setenv(MEMORY_CAP, str(allocator.cap))
    guard = MemoryGuard(allocator.tensorflow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda longest: guard.run(allocator.run, _batch(4, longest)), range(100, 0, -1)))
    assert allocator.most_at_once > 1


@pytest.mark.slow
def test_an_allocator_that_does_not_count_lets_everything_through(tiny_bundle: Path) -> None:
    """TensorFlow's plain allocator, where oneDNN is off: no machine is refused for it."""
    code = "import sys; from model_bundle import Encoder; print(Encoder(sys.argv[1]).encode(['a cat']).shape)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle)],
        cwd=PROJECT,
        env={**os.environ, ONEDNN: "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 16)\n"


def test_onednn_is_on_whatever_the_processor() -> None:
    code = (
        "from model_bundle.runtime.tensorflow_setup import import_tensorflow\n"
        "import_tensorflow()\n"
        "from tensorflow.python.util import _pywrap_util_port as port\n"
        "print(port.IsMklEnabled())"
    )
    env = {name: value for name, value in os.environ.items() if name != ONEDNN}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n" or platform.machine() != "x86_64", done.stderr
