"""A model in a process of its own: the same vectors, and whatever ends the process costs one text."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import ModelBundleError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.results import EncodedTexts
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.isolated.process import ChildProcess
from model_bundle.runtime.isolated.runtime import IsolatedRuntime
from model_bundle.runtime.isolated.shared_arrays import SharedArrays, new_descriptor
from model_bundle.runtime.request import EncodeRequest
from tests.support.examples import examples
from tests.support.faults import crashing
from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import run_job, write_texts

DTYPES = st.sampled_from(["<f4", "<i4", "<i8", "|b1", "<f8", "|S3", "<U2", "|u1"])


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> ModelBundle:
    return ModelBundle.open(str(tiny_bundle))


@pytest.fixture(scope="module")
def runtime(bundle: ModelBundle) -> Iterator[IsolatedRuntime]:
    yield crashing.CrashingIsolatedRuntime(bundle, EncodeRequest.resolve(bundle), 2)
    gc.collect()


def _vectors(found: EncodedTexts) -> np.ndarray:
    return next(iter(found.vectors.values()))


def _texts(number: int) -> list[str]:
    return [f"the {'cat ' * (i % 9)}{i}" for i in range(number)]


@given(
    st.lists(DTYPES.flatmap(lambda d: arrays_of.arrays(d, arrays_of.array_shapes(min_side=0, max_dims=3)))),
    st.lists(arrays_of.arrays("<f4", arrays_of.array_shapes(max_side=40))),
)
@settings(max_examples=examples(60), deadline=None)
def test_arrays_arrive_as_they_were(first: list[np.ndarray], then: list[np.ndarray]) -> None:
    descriptor = new_descriptor()
    ours, theirs = SharedArrays(descriptor), SharedArrays(descriptor)
    try:
        for arrays in (first, then, first):
            found = theirs.views(ours.write({str(i): array for i, array in enumerate(arrays)}))
            assert list(found) == [str(i) for i in range(len(arrays))]
            for array, copy in zip(arrays, found.values(), strict=True):
                assert copy.dtype == array.dtype
                np.testing.assert_array_equal(copy, array)
    finally:
        os.close(descriptor)


def test_words_arrive_too() -> None:
    words = np.array([["der", b"Hund"], ["", "läuft"]], dtype=object)
    descriptor = new_descriptor()
    placed = SharedArrays(descriptor).write({"words": words})
    assert SharedArrays(descriptor).views(placed)["words"].tolist() == words.tolist()
    os.close(descriptor)


@pytest.mark.slow
def test_the_vectors_are_those_of_a_model_in_the_process(bundle: ModelBundle, tiny_bundle: Path) -> None:
    texts = [*_texts(300), FAILING_WORD]
    runtime = IsolatedRuntime(bundle, EncodeRequest.resolve(bundle), 2, measure_batches=True)
    found = TextEncoder(bundle, runtime, 512).encode_each(texts)
    expected = Encoder(str(tiny_bundle)).encode(texts[:-1])
    np.testing.assert_allclose(_vectors(found)[:-1], expected, atol=1e-6)
    assert [(f.text_index, f.reason) for f in found.failures] == [(300, "model_error")]
    assert "is not in [0, " in found.failures[0].message
    assert runtime.batch_tokens is not None
    assert runtime.unfrozen_reason is None
    assert runtime.num_restarts == 0


@pytest.mark.parametrize(
    ("word", "signal_name"),
    [
        pytest.param(crashing.ABORTING_WORD, "SIGABRT", marks=pytest.mark.slow),
        (crashing.ILLEGAL_WORD, "SIGSEGV"),
    ],
)
def test_a_text_that_ends_the_process_is_found_and_its_neighbours_are_unharmed(
    bundle: ModelBundle, runtime: IsolatedRuntime, word: str, signal_name: str
) -> None:
    texts = _texts(90)
    texts[37] = f"a {word} dog"
    before = runtime.num_restarts
    found = TextEncoder(bundle, runtime, 256).encode_each(texts)
    assert [(f.text_index, f.reason) for f in found.failures] == [(37, "model_crash")]
    assert signal_name in found.failures[0].message
    alive = [i for i in range(90) if i != 37]
    expected = crashing.expected_vectors(bundle, [texts[i] for i in alive])
    np.testing.assert_allclose(_vectors(found)[alive], expected, atol=1e-6)
    assert runtime.num_restarts - before <= 5  # in company, alone, in sixteenths, by itself, and up again


def test_a_process_that_the_system_kills_makes_batches_smaller_for_good(
    bundle: ModelBundle, runtime: IsolatedRuntime
) -> None:
    encoder = TextEncoder(bundle, runtime, 64)
    found = encoder.encode_each([f"a dog ran {crashing.KILLED_WORD}"] * 9)
    assert not found.failures
    assert encoder.max_batch_tokens < 64


def test_a_process_that_somebody_kills_costs_nothing_but_time(
    bundle: ModelBundle, runtime: IsolatedRuntime
) -> None:
    """Killed four times, loading, idle or at work: no text is blamed."""
    texts = _texts(200)
    encoder = TextEncoder(bundle, runtime, 128)
    stopped = threading.Event()

    def kill() -> None:
        last = 0
        for _ in range(4):
            while runtime.pid == last and not stopped.wait(0.01):
                pass
            last = runtime.pid
            os.kill(last, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    rounds = [encoder.encode_each(texts) for _ in range(5)]
    stopped.set()
    killer.join()
    expected = crashing.expected_vectors(bundle, texts)
    for found in rounds:
        assert not found.failures
        np.testing.assert_allclose(_vectors(found), expected, atol=1e-6)


def test_a_process_that_ends_while_loading_is_an_error_that_says_so(bundle: ModelBundle) -> None:
    with pytest.raises(ModelBundleError, match=r"SIGABRT while loading it.*verify"):
        IsolatedRuntime(bundle, EncodeRequest.resolve(bundle), 1, load=crashing.load_aborting)


def test_a_damaged_bundle_is_told_as_it_is(bundle: ModelBundle) -> None:
    child = ChildProcess(1)
    try:
        pinned = (f"{bundle.path}@sha256:{'0' * 64}", ())
        with pytest.raises(ModelBundleError, match="0000"):
            child.load(crashing.load_crashing, pinned, None, 1, False)
    finally:
        child.end()


def test_the_process_ends_with_its_owner(bundle: ModelBundle) -> None:
    runtime = crashing.CrashingIsolatedRuntime(bundle, EncodeRequest.resolve(bundle), 1)
    process = runtime._child.process
    del runtime
    gc.collect()
    assert process.returncode == -signal.SIGKILL


def test_a_poisoned_document_ends_as_a_dead_letter(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import beam_jobs.pipeline.encode.dofn
    import model_bundle.runtime.shared

    for module in (model_bundle.runtime.shared, beam_jobs.pipeline.encode.dofn):
        monkeypatch.setattr(module, "IsolatedRuntime", crashing.CrashingIsolatedRuntime)
    texts = _texts(300)
    texts[123] = f"secret {crashing.ABORTING_WORD}"
    source = write_texts(tmp_path / "in.jsonl", texts)
    flags = ["--input", source, "--id_column", "id", "--max_dead_fraction", 0.01, "--isolate_model"]
    run = run_job(tmp_path / "out", tiny_bundle, *flags, "--no_text")
    assert run.exit_code == 0, run.stderr
    assert run.reasons == {"123": "model_crash"}
    assert "secret" not in str(run.dead)
    assert sorted(map(int, run.column("doc_id"))) == [i for i in range(300) if i != 123]
