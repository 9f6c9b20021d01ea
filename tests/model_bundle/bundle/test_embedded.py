"""Bundles that ship with the package: by name, pinned, and with a way out where an installation has none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from model_bundle.bundle import embedded
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.embedded import DIGESTS, find_embedded
from model_bundle.bundle.resolve import NAMED_BUNDLES, find_bundle
from model_bundle.errors import BundleIntegrityError, SourceError


@pytest.fixture
def shipped(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelBundle:
    """A package that ships one bundle, called tiny."""
    built = build_tiny("tiny_bert")
    shutil.copytree(built.path, tmp_path / "tiny")
    monkeypatch.setattr(embedded, "_FOLDER", tmp_path)
    monkeypatch.setattr(embedded, "DIGESTS", {"tiny": built.digest})
    return built


def test_the_pinned_bundle_is_found(shipped: ModelBundle, tmp_path: Path) -> None:
    assert find_embedded("tiny") == tmp_path / "tiny"
    assert ModelBundle.open(find_embedded("tiny")).digest == shipped.digest


def test_another_bundle_in_its_place_is_refused(
    shipped: ModelBundle, build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "tiny")
    other = build_tiny("tiny_distilbert")
    shutil.copytree(other.path, tmp_path / "tiny")
    with pytest.raises(
        BundleIntegrityError, match=f"has digest {other.digest}, but {shipped.digest} is pinned"
    ):
        find_embedded("tiny")


def test_a_file_that_was_changed_is_noticed(shipped: ModelBundle, tmp_path: Path) -> None:
    assert shipped.manifest.files
    (tmp_path / "tiny" / "LICENSE").write_text("mine")
    with pytest.raises(BundleIntegrityError, match="LICENSE"):
        ModelBundle.open(find_embedded("tiny"))


def test_an_installation_without_models_names_the_ways_out(shipped: ModelBundle, tmp_path: Path) -> None:
    assert shipped.path.is_dir()
    shutil.rmtree(tmp_path / "tiny")
    with pytest.raises(SourceError, match=r"(?s)this installation lacks it: .*tiny.*wheel.*--bundle gs://"):
        find_embedded("tiny")


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_what_ships_is_whole_small_and_named(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert name in NAMED_BUNDLES
    bundle = ModelBundle.open(name)
    assert bundle.path == find_bundle(name)
    assert (bundle.manifest.name, bundle.digest) == (name, DIGESTS[name])
    assert sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()) <= 12_000_000
