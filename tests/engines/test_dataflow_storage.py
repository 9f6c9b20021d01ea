"""The whole gs:// path on an emulator: bundles there and back, runs, a storage that is busy or refuses."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.internal.gcp import auth

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.transfer import push_bundle
from model_bundle.cli.main import main
from model_bundle.errors import BundleIntegrityError, SourceError
from tests.support.cloud.dataflow_jobs import put_bundle, put_texts, rows_below, run_module
from tests.support.cloud.fake_google import FakeGoogle, Fault, serving

# After a refused download the storage client leaves the connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGoogle]:
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    with serving() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path / "cache"))
        yield server
    gc.collect()  # here, where its complaints about the client's connections are not another test's


def _downloads(google: FakeGoogle) -> list[str]:
    return [r.path.rpartition("%2F")[2] for r in google.requests if r.flags.get("alt") == "media"]


def test_a_bundle_goes_to_its_digest_once_and_comes_back(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = ModelBundle.open(tiny_bundle).digest
    google.faults += [Fault("POST /upload", 503), Fault("POST /upload", 429)]
    assert main(["push", str(tiny_bundle), "gs://models/all/"]) == 0
    url = f"gs://models/all/{digest}@sha256:{digest}"
    assert capsys.readouterr().out.splitlines()[0] == url
    assert [fault.seen for fault in google.faults] == [1, 1]
    sent = [r for r in google.requests if r.method == "POST"]
    assert b"bundle.json" in sent[-1].body  # last: before it, the folder is no bundle
    google.requests.clear()
    assert main(["push", str(tiny_bundle), "gs://models/all"]) == 0
    assert "there already" in capsys.readouterr().out
    assert not [r for r in google.requests if r.method == "POST"]
    assert main(["pull", url, str(tmp_path / "mine")]) == 0
    assert ModelBundle.open(tmp_path / "mine").digest == digest
    assert main(["pull", url, str(tmp_path / "mine")]) == 2


def test_what_a_stopped_push_left_is_completed(google: FakeGoogle, tiny_bundle: Path) -> None:
    google.faults.append(Fault("POST /upload.*", 403, times=1, message="not yours"))
    with pytest.raises(SourceError, match=r"cannot be written: .*not yours"):
        push_bundle(str(tiny_bundle), "gs://models/all")
    assert not [key for key in google.storage.objects if key.endswith("bundle.json")]
    url, _ = push_bundle(str(tiny_bundle), "gs://models/all")
    assert ModelBundle.open(url).manifest.name == "tiny"
    key = next(key for key in google.storage.objects if key.endswith("LICENSE"))
    google.storage.put(key, b"cut")
    assert push_bundle(str(tiny_bundle), "gs://models/all") == (url, 2)


@pytest.mark.slow
def test_eight_processes_fetch_a_bundle_once(google: FakeGoogle, tiny_bundle: Path, tmp_path: Path) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    code = "from model_bundle.bundle.resolve import find_bundle; print(find_bundle('gs://models/tiny'))"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        for _ in range(8)
    ]
    places = {child.communicate(timeout=250)[0].strip() for child in children}
    digest = ModelBundle.open(tiny_bundle).digest
    assert places == {str(tmp_path / "cache" / "gcs" / digest)}
    loaded = _downloads(google)
    files = [name for name in loaded if name != "bundle.json"]
    assert len(files) == len(set(files)) == len(ModelBundle.open(tiny_bundle).manifest.files)
    assert loaded.count("bundle.json") == 8


def test_a_fetch_that_was_cut_goes_on_and_shows_nothing_half(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    google.faults.append(Fault(r"GET /download.*variables\.data", 403, times=1, message="gone for now"))
    with pytest.raises(SourceError, match="gone for now"):
        ModelBundle.open("gs://models/tiny")
    assert not [p for p in (tmp_path / "cache" / "gcs").iterdir() if not p.name.startswith(".partial-")]
    google.requests.clear()
    google.faults += [Fault("GET /download", 503), Fault("GET /download", 429)]
    assert ModelBundle.open("gs://models/tiny").manifest.name == "tiny"
    assert len(set(_downloads(google))) < 1 + len(ModelBundle.open(tiny_bundle).manifest.files)
    assert not list((tmp_path / "cache" / "gcs").glob(".partial-*"))


def test_a_large_file_comes_in_pieces_and_is_checked(
    google: FakeGoogle, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_bundle.bundle.gcs._PIECE_BYTES", 2000)
    put_bundle(google, tiny_bundle, "models/tiny")
    assert ModelBundle.open("gs://models/tiny").digest == ModelBundle.open(tiny_bundle).digest
    assert len([r for r in google.requests if "range" in r.headers and "variables.data" in r.path]) > 3


def test_a_changed_object_is_refused_and_not_kept(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    whole = google.storage.objects["models/tiny/LICENSE"]
    google.storage.put("models/tiny/LICENSE", b"!" + whole[1:])
    with pytest.raises(BundleIntegrityError, match="changed: LICENSE"):
        ModelBundle.open("gs://models/tiny")
    assert not list((tmp_path / "cache" / "gcs").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_in_a_bucket_with_a_busy_storage_and_the_next_one_takes_over(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    put_texts(google)
    busy = [
        r"GET /storage/v1/b/data/o$",
        "POST /upload",
        r"GET /download.*texts",
        "POST /batch",
        "GET .*manifest",
    ]
    google.faults += [Fault(pattern, code) for pattern in busy for code in (503, 429)]
    job = (
        "--input=gs://data/in/*.jsonl",
        "--output=gs://data/out",
        "--bundle=gs://models/tiny",
        "--id_column=id",
    )
    first = run_module(google, tmp_path, "beam_jobs.embed", *job, "--run_id=first")
    assert first.returncode == 0, first.stderr
    assert all(fault.seen for fault in google.faults), google.faults
    assert len(rows_below(google, "data/out/first/embeddings")) == 4
    put_texts(google, texts=["the cat sat on a mat", "a dog ran home", "new text of the dog"])
    second = run_module(google, tmp_path, "beam_jobs.embed", *job, "--run_id=second", "--previous=latest")
    assert second.returncode == 0, second.stderr
    counts = json.loads(google.storage.objects["data/out/second/manifest.json"])["counts"]
    assert (counts["num_read"], counts["num_reused"]) == (3, 2)
    assert json.loads(google.storage.objects["data/out/latest.json"])["run_id"] == "second"


@pytest.mark.slow
def test_expired_credentials_are_one_clear_message(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_texts(google)
    google.faults.append(Fault(".*", 401, times=10_000, message="Invalid Credentials"))
    done = run_module(
        google, tmp_path, "beam_jobs.embed", "--input=gs://data/in/*.jsonl", "--output=gs://data/out",
        f"--bundle={tiny_bundle}", "--run_id=night",
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert not [key for key in google.storage.objects if key.startswith("data/out")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_job_leaves_no_manifest_and_goes_on(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    put_texts(google, texts=[f"the cat sat on mat {number}" for number in range(60)])
    flags = ["--input=gs://data/in/*.jsonl", "--output=gs://data/out", "--bundle=gs://models/tiny",
             "--id_column=id", "--run_id=night", "--buffer_documents=16",
             "--checkpoint_seconds=0.2"]  # fmt: skip
    google.faults.append(Fault("POST /batch", 503, times=1_000_000))  # nothing is moved before it is killed
    env = os.environ | google.environment(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.embed", *flags], env=env, stderr=subprocess.DEVNULL
    )
    while child.poll() is None and not any(
        "_staging/embeddings" in key for key in list(google.storage.objects)
    ):
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    staged = [key for key in google.storage.objects if "_staging/embeddings" in key]
    assert staged
    google.faults.clear()
    assert "data/out/night/manifest.json" not in google.storage.objects
    done = run_module(google, tmp_path, "beam_jobs.embed", *flags)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(google.storage.objects["data/out/night/manifest.json"])
    assert manifest["counts"]["num_read"] == 60
    table = rows_below(google, "data/out/night/embeddings")
    assert sorted(table.column("doc_id").to_pylist()) == sorted(map(str, range(60)))
    for file in manifest["files"]:
        assert len(google.storage.objects[f"data/out/night/{file['path']}"]) == file["num_bytes"]
