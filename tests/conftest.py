"""What every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# How long an example takes is the machine's doing: others may use it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

DATA_DIR = Path(__file__).parent / "data"


def shared_path(relative: str) -> Path:
    """Finds reference data that lies beside a checkout, or skips the test, saying so."""
    root = Path(os.environ.get("SHARED_DIR", Path(__file__).parents[2] / "shared"))
    path = root / relative
    if not path.exists():
        pytest.skip(f"reference data {relative} is not on this machine (SHARED_DIR)")
    return path


@pytest.fixture(scope="session")
def minilm_bundle() -> Path:
    """all-MiniLM-L6-v2. Skips, saying so, where it cannot be fetched; a build that fails is an error."""
    from model_bundle.bundle.minilm import NAME, prefetch_minilm
    from model_bundle.bundle.resolve import find_bundle
    from model_bundle.errors import SourceError

    try:
        prefetch_minilm()
    except SourceError as error:
        pytest.skip(f"all-MiniLM-L6-v2 is not here and cannot be fetched: {error}")
    return find_bundle(NAME)


@pytest.fixture(scope="session")
def build_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelBundle]:
    """Builds the bundle of a folder of ``tests/data``, once. Tests must not change it; copy it first."""
    from model_bundle.builders.bert.build import build_encoder_bundle
    from model_bundle.builders.bert.source import BertOptions, read_bert_source

    @cache
    def build(model: str) -> ModelBundle:
        read = read_bert_source(str(DATA_DIR / model), BertOptions())
        return build_encoder_bundle(read.source, tmp_path_factory.mktemp("bundles") / model)

    return build


@pytest.fixture(scope="session")
def build_head(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelBundle]:
    """Builds the classifier of a folder of ``tests/data``, once. Tests must not change it; copy it first."""
    from model_bundle.builders.bert.build import build_encoder_bundle
    from model_bundle.builders.bert.heads import HeadOptions
    from model_bundle.builders.bert.source import BertOptions, read_bert_source

    @cache
    def build(model: str) -> ModelBundle:
        read = read_bert_source(str(DATA_DIR / model), BertOptions(head=HeadOptions()))
        return build_encoder_bundle(read.source, tmp_path_factory.mktemp("heads") / model)

    return build


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, and words that make it fail: ``tests.support.models.tiny``."""
    from tests.support.models.tiny import build_tiny_bundle

    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes the text itself: see ``tests/support/models/tiny.py``."""
    from tests.support.models.tiny import build_text_bundle

    return build_text_bundle(tmp_path_factory.mktemp("bundles") / "text").path


@pytest.fixture
def denied(tmp_path: Path) -> Path:
    """A folder that this user may not write to; root is refused by none but the kernel's own."""
    if os.geteuid() == 0:
        return Path("/sys")
    folder = tmp_path / "denied"
    folder.mkdir(mode=0o555)
    return folder
