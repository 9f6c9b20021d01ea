"""The size of batches: the fastest on this machine, the smaller of equals, measured once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import ModelRunError
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.batch_size import (
    CANDIDATES,
    DEFAULT_BATCH_TOKENS,
    calibrated_batch_tokens,
    measure_batch_tokens,
)
from model_bundle.runtime.request import EncodeRequest


class Machine:
    """A model whose batches cost what they are said to: seconds at the start of each, and for a cell.

    ``clock`` is the time it has worked, whatever the real machine does meanwhile.
    """

    unfrozen_reason = None
    ready_seconds = 0.0
    parallelism = 1

    def __init__(self, bundle: ModelBundle, start: float, cell: float, *, fits: float = np.inf) -> None:
        self.request = EncodeRequest.resolve(bundle)
        self.start, self.cell, self.fits = start, cell, fits
        self.num_calls = 0
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.num_calls += 1
        cells = inputs["ids"].size
        if cells > self.fits * 1.2:
            raise ModelRunError("too large")
        self.seconds += self.start + cells * self.cell * (3 if cells > 4096 else 1)
        return {}


def measured(bundle: ModelBundle, machine: Machine) -> int:
    return measure_batch_tokens(bundle, machine, machine.clock)


@pytest.fixture
def bundle(tiny_bundle: Path) -> ModelBundle:
    return ModelBundle.open(tiny_bundle)


def test_batches_grow_until_it_is_no_longer_worth_it(bundle: ModelBundle) -> None:
    assert measured(bundle, Machine(bundle, start=0.0, cell=2e-6)) == 2048
    assert measured(bundle, Machine(bundle, start=0.004, cell=2e-6)) == 4096


def test_a_slow_model_is_not_tried_for_long(bundle: ModelBundle) -> None:
    machine = Machine(bundle, start=0.0, cell=6e-4)
    assert measured(bundle, machine) == DEFAULT_BATCH_TOKENS
    assert machine.num_calls == 1


def test_a_model_that_fails_is_left_to_the_job(bundle: ModelBundle) -> None:
    assert measured(bundle, Machine(bundle, 0.0, 0.0, fits=0)) == DEFAULT_BATCH_TOKENS


def test_what_was_found_is_kept(bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path))
    machine = Machine(bundle, start=0.004, cell=2e-6)
    first = calibrated_batch_tokens(bundle, machine)
    num_calls = machine.num_calls
    assert calibrated_batch_tokens(bundle, machine) == first
    assert machine.num_calls == num_calls
    (path,) = (tmp_path / "calibration").glob("*.json")
    assert json.loads(path.read_bytes()) == {"max_batch_tokens": first}
    path.write_bytes(b"{")
    assert calibrated_batch_tokens(bundle, machine) == first
    assert machine.num_calls > num_calls


def test_other_settings_are_measured_anew(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path))
    for lanes in (1, 2):
        machine = Machine(bundle, 0.0, 0.0)
        machine.parallelism = lanes
        calibrated_batch_tokens(bundle, machine)
    assert len([*(tmp_path / "calibration").glob("*.json")]) == 2


def test_without_a_cache_it_is_said_and_measured(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path / "file"))
    assert calibrated_batch_tokens(bundle, Machine(bundle, start=0.004, cell=2e-6)) in CANDIDATES
    assert "BEAM_JOBS_CACHE" in caplog.text


def test_an_encoder_says_what_it_took(tiny_bundle: Path) -> None:
    assert Encoder(tiny_bundle, max_batch_tokens=77).max_batch_tokens == 77
    assert Encoder(tiny_bundle).max_batch_tokens in (2048, 4096, 8192)
