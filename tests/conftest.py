"""What every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.once import build_once
from tests.support.order import longest_first

if TYPE_CHECKING:
    from model_bundle.builders.bert.source import BertOptions
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.inference.encoder import Encoder

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Tracing graphs makes objects by the hundred thousand, nearly all of which stay. Looking for cycles
# as often as Python does by itself is a tenth of the suite's processor time.
gc.set_threshold(200_000, 20, 50)

# How long an example takes is the machine's doing: others may use it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

DATA_DIR = Path(__file__).parent / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = longest_first(items)


class KeepSurvivors:
    """What has survived a look at all objects stays for good: no later look takes it up again."""

    def __init__(self) -> None:
        self._num_looks = 0

    def pytest_runtest_logfinish(self) -> None:
        num_looks = gc.get_stats()[2]["collections"]
        if num_looks > self._num_looks:
            self._num_looks = num_looks
            gc.freeze()

    def pytest_unconfigure(self) -> None:
        gc.unfreeze()
        gc.collect()  # libraries report objects that are never freed


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(KeepSurvivors())


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
    from model_bundle.builders.bert.source import BertOptions

    return _built_from_data(tmp_path_factory, "bert", BertOptions())


@pytest.fixture(scope="session")
def build_head(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelBundle]:
    """Builds the classifier of a folder of ``tests/data``, once. Tests must not change it; copy it first."""
    from model_bundle.builders.bert.heads import HeadOptions
    from model_bundle.builders.bert.source import BertOptions

    return _built_from_data(tmp_path_factory, "head", BertOptions(head=HeadOptions()))


@pytest.fixture(scope="session")
def build_pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelBundle]:
    """Builds the head of a folder of ``tests/data`` for two texts, once, with 40 tokens. Do not change it."""
    from model_bundle.builders.bert.heads import HeadOptions
    from model_bundle.builders.bert.source import BertOptions

    options = BertOptions(head=HeadOptions(pairs=True), max_tokens=40)
    return _built_from_data(tmp_path_factory, "pairs", options)


def _built_from_data(
    factory: pytest.TempPathFactory, kind: str, options: BertOptions
) -> Callable[[str], ModelBundle]:
    from model_bundle.builders.bert.build import build_encoder_bundle
    from model_bundle.builders.bert.source import read_bert_source
    from model_bundle.bundle.bundle import ModelBundle

    @cache
    def build(model: str) -> ModelBundle:
        name = Path(model).name

        def write(folder: Path) -> None:
            read = read_bert_source(str(DATA_DIR / model), options)
            build_encoder_bundle(read.source, folder / name)

        return ModelBundle.open(build_once(factory, f"{kind}-{name}", write) / name)

    return build


@pytest.fixture(scope="session")
def open_encoder() -> Callable[..., Encoder]:
    """Opens an encoder of a bundle that tests share, once per process and choice of options.

    Not for ``stateful=True``, whose vectors depend on what was encoded before.
    """
    from model_bundle.inference.encoder import Encoder

    @cache
    def opened(bundle: Path, **options: Any) -> Encoder:
        return Encoder(bundle, **options)

    return opened


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, and words that make it fail: ``tests.support.models.tiny``."""
    from tests.support.models.tiny import build_tiny_bundle

    return build_once(tmp_path_factory, "tiny", build_tiny_bundle)


@pytest.fixture(scope="session")
def tiny_plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same BERT, whose vectors keep their length."""
    from tests.support.models.tiny import build_tiny_bundle

    return build_once(tmp_path_factory, "tiny-plain", partial(build_tiny_bundle, normalize=False))


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes the text itself: see ``tests/support/models/tiny.py``."""
    from tests.support.models.tiny import build_text_bundle

    return build_once(tmp_path_factory, "text", build_text_bundle)


@pytest.fixture(scope="session")
def tiny_elmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ELMo with random weights: see ``tests/support/models/tiny_elmo.py``."""
    from tests.support.models.tiny_elmo import build_tiny_elmo

    return build_once(tmp_path_factory, "elmo", build_tiny_elmo) / "elmo"


@pytest.fixture(scope="session")
def long_words_elmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ELMo with random weights that reads 50 characters of a word."""
    from tests.support.models.tiny_elmo import build_long_words_elmo

    return build_once(tmp_path_factory, "long-words-elmo", build_long_words_elmo) / "elmo"


@pytest.fixture(scope="session")
def allennlp_elmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AllenNLP's own small ELMo, which lies beside a checkout."""
    from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle

    source = shared_path("fixtures/elmo_allennlp")
    files = source / "options.json", source / "lm_weights.hdf5"
    return build_once(
        tmp_path_factory, "allennlp-elmo", lambda folder: build_elmo_bundle(*files, ElmoChoices(), folder)
    )


@pytest.fixture
def denied(tmp_path: Path) -> Path:
    """A folder that this user may not write to; root is refused by none but the kernel's own."""
    if os.geteuid() == 0:
        return Path("/sys")
    folder = tmp_path / "denied"
    folder.mkdir(mode=0o555)
    return folder
