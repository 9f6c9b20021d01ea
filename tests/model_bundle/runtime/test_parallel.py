"""Batches side by side: each item once, errors passed on, memory shared and never oversold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.base.parallel import run_parallel
from model_bundle.runtime.memory import MemoryGate
from tests.support.examples import examples


@given(parallelism=st.integers(1, 5), num_items=st.integers(0, 50))
@settings(max_examples=examples(30), deadline=None)
def test_each_item_runs_once(parallelism: int, num_items: int) -> None:
    seen: list[int] = []
    run_parallel(parallelism, iter(range(num_items)), seen.append)
    assert sorted(seen) == list(range(num_items))


def test_threads_run_at_the_same_time() -> None:
    """Both items wait for each other: one after the other would never end."""
    together = threading.Barrier(2, timeout=20)
    run_parallel(2, iter(range(2)), lambda _: together.wait() and None)


def test_items_are_drawn_when_a_thread_is_free() -> None:
    """A plan that changes on the way, as when memory runs out, must not have been read ahead."""
    num_drawn = 0
    finished: list[int] = []
    ahead: list[int] = []

    def items() -> Iterator[int]:
        nonlocal num_drawn
        for number in range(20):
            num_drawn += 1
            ahead.append(num_drawn - len(finished))
            yield number

    def run(item: int) -> None:
        time.sleep(0.002)
        finished.append(item)

    run_parallel(2, items(), run)
    assert max(ahead) <= 2


@pytest.mark.parametrize("parallelism", [1, 3])
def test_an_error_ends_all_threads_and_is_passed_on(parallelism: int) -> None:
    started: list[int] = []

    def run(item: int) -> None:
        started.append(item)
        if item == 2:
            raise KeyError("the third")
        time.sleep(0.005)

    with pytest.raises(KeyError, match="the third"):
        run_parallel(parallelism, iter(range(10_000)), run)
    assert len(started) < 100


def test_an_error_of_the_plan_is_passed_on() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        run_parallel(2, items(), lambda _: None)


@settings(max_examples=examples(20), deadline=None)
@given(needs=st.lists(st.integers(1, 10), min_size=1, max_size=30), alone=st.sets(st.integers(0, 29)))
def test_what_runs_together_fits(needs: list[int], alone: set[int]) -> None:
    gate, lock = MemoryGate(), threading.Lock()
    running: dict[int, int] = {}
    crowded: list[int] = []

    def run(number: int) -> None:
        enter = gate.exclusive() if number in alone else gate.shared(needs[number], 10)
        with enter:
            with lock:
                running[number] = needs[number]
                is_fine = len(running) == 1 if alone & set(running) else sum(running.values()) <= 10
                if not is_fine:
                    crowded.append(number)
            time.sleep(0.0005)
            with lock:
                del running[number]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(len(needs))))
    assert not crowded
