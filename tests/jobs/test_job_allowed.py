"""Operations beyond a model's graph are allowed by whoever opens the bundle, never by the bundle or a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.search.query import open_bundle
from model_bundle.builders.tfhub.build import build_hub_bundle
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import ForbiddenOperationError
from model_bundle.inference.encoder import Encoder
from tests.support.models.saved_models import writes_in_signature
from tests.support.runs.jobs import run_job, write_texts

REFUSED = r"(?s)WriteFile writes files .*when building or opening it: --allow_ops WriteFile"


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A bundle that records WriteFile as allowed."""
    folder = tmp_path_factory.mktemp("writing")
    module = writes_in_signature(folder / "module", folder / "written")
    return build_hub_bundle(str(module), HubChoices(allow_ops=("WriteFile",)), folder / "bundle").bundle


def written(bundle: ModelBundle) -> Path:
    return bundle.path.parent / "written"


def test_a_job_allows_what_its_submitter_allows(writing: ModelBundle) -> None:
    place = str(writing.path)
    assert writing.manifest.allowed_ops == ("WriteFile",)
    for allow in ((), ("ReadFile",)):
        with pytest.raises(ForbiddenOperationError, match=REFUSED):
            EncodeSettings.resolve(place, allow_ops=allow)
    for settings in (
        EncodeSettings.resolve(place, allow_ops=("WriteFile", "ReadFile")),
        EncodeSettings.resolve(f"{place}@sha256:{writing.digest}"),
    ):
        # Workers open it with what was allowed, and no more.
        assert settings.allowed_ops == settings.open_bundle().allowed_ops == ("WriteFile",)


def test_the_library_is_told_in_the_same_way(writing: ModelBundle) -> None:
    written(writing).unlink(missing_ok=True)
    with pytest.raises(ForbiddenOperationError, match=REFUSED):
        Encoder(writing.path)
    assert not written(writing).exists()
    Encoder(writing.path, allow_ops=("WriteFile",)).encode(["a text"])
    assert written(writing).exists()


def test_the_command_says_what_is_allowed_and_its_child_may_do_it(
    writing: ModelBundle, tmp_path: Path
) -> None:
    source = write_texts(tmp_path / "texts.jsonl", ["a text", "another"])
    flags = ["--input", source, "--id_column", "id", "--isolate_model"]
    written(writing).unlink(missing_ok=True)
    refused = run_job(tmp_path / "refused", writing.path, *flags)
    assert refused.exit_code != 0
    assert "WriteFile writes files" in refused.stderr
    assert not written(writing).exists()
    run = run_job(tmp_path / "out", writing.path, *flags, "--allow_ops", "WriteFile")
    assert run.exit_code == 0, run.stderr
    assert "allowed by --allow_ops or a pin: the model may use WriteFile" in run.stderr + run.stdout
    assert written(writing).exists()


def test_the_digest_in_a_run_allows_nothing_the_searchers_pin_does(writing: ModelBundle) -> None:
    named = {"digest": writing.digest, "name": "writing", "place": str(writing.path)}
    manifest: Any = SimpleNamespace(bundle=named, run_id="run")
    pinned = f"{writing.path}@sha256:{writing.digest}"
    for place in (None, str(writing.path), f"{writing.path}@sha256:{'0' * 64}"):
        with pytest.raises(ForbiddenOperationError, match=REFUSED):
            open_bundle(manifest, place)
    assert open_bundle(manifest, pinned).allowed_ops == ("WriteFile",)
    assert open_bundle(manifest, None, ("WriteFile",)).allowed_ops == ("WriteFile",)
