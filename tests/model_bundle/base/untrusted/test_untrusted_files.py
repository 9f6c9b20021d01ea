"""JSON and zip files that unpack to far more than they are, or are written as no program writes them."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.errors import JobError
from beam_jobs.store.manifest import RunManifest
from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.base.untrusted.zips import open_zip, read_npz
from model_bundle.builders.elmo.bilm_files import read_options
from model_bundle.builders.keras.load.parent import plan
from model_bundle.builders.keras.load.weights import unzip_weights
from model_bundle.builders.keras.options import LoadChoices
from model_bundle.builders.keras.source import find_source
from model_bundle.builders.source_folder import read_json
from model_bundle.builders.tfhub.archive import unpack
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest, canonical_json
from model_bundle.errors import BundleFormatError, BundleIntegrityError, ModelBundleError, SourceError

DEEP = b'{"format_version":1,"class_name":"Sequential","config":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
# Few enough levels for the parser, too many for Python's own code.
FAIRLY_DEEP = DEEP.replace(b"[" * 200_000, b"[" * 600).replace(b"]" * 200_000, b"]" * 600)
DIGITS = b'{"format_version":1,"class_name":"Sequential","config":{"name":' + b"1" * 5000 + b"}}"
NOT_UTF8 = b'{"format_version":1,"class_name":"Sequential","config":"\xff"}'
BOMBS = [DEEP, FAIRLY_DEEP, DIGITS, NOT_UTF8]
IDS = ["deep", "fairly deep", "digits", "not UTF-8"]


def load_architecture(path: Path) -> None:
    plan(find_source(path), LoadChoices(weights=path), path.parent / "out")


def load_zip(path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".keras"), "w") as archive:
        archive.write(path, "config.json")
        archive.writestr("metadata.json", "{}")
    plan(find_source(path.with_suffix(".keras")), LoadChoices(), path.parent / "out")


READERS: list[tuple[Callable[[Path], object], type[Exception]]] = [
    (read_json, SourceError),
    (read_options, SourceError),
    (load_architecture, SourceError),
    (load_zip, SourceError),
    (lambda path: BundleManifest.from_bytes(path.read_bytes(), "bundle.json"), BundleFormatError),
    (lambda path: RunManifest.from_bytes(path.read_bytes(), "manifest.json"), JobError),
]


@pytest.mark.parametrize("data", BOMBS, ids=IDS)
@pytest.mark.parametrize(("reader", "error"), READERS)
def test_odd_json_is_the_format_s_error(
    data: bytes, reader: Callable[[Path], object], error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "file.json").write_bytes(data)
    with pytest.raises(error, match=r"JSON|not a saved model|config\.json|not a run manifest") as refused:
        reader(tmp_path / "file.json")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("data", BOMBS, ids=IDS)
def test_odd_json_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(JsonError):
        parse_json(data)


def test_nested_models_and_large_numbers_are_read() -> None:
    value = json.loads("[" * 100 + str(1 << 64) + "]" * 100)
    assert parse_json(json.dumps(value)) == value
    assert str(parse_json("[NaN]")[0]) == "nan"
    with pytest.raises(JsonError, match="NaN, which is not JSON"):
        parse_json("[NaN]", allow_nan=False)


@pytest.mark.parametrize("text", ['"\\ud800"', "NaN", "1e999"])
def test_values_without_a_canonical_form_are_refused(text: str, tiny_bundle: Path, tmp_path: Path) -> None:
    raw = json.loads((tiny_bundle / "bundle.json").read_bytes())
    name = canonical_json(raw["name"]).strip()
    data = canonical_json(raw).replace(b'"name":' + name, b'"name":' + name + b',"odd":' + text.encode(), 1)
    _copy(tiny_bundle, tmp_path / "bundle", data)
    with pytest.raises((BundleFormatError, BundleIntegrityError)):
        ModelBundle.open(tmp_path / "bundle")


@pytest.mark.parametrize("first", [True, False])
def test_a_file_listed_twice_is_refused(first: bool, tiny_bundle: Path, tmp_path: Path) -> None:
    raw = json.loads((tiny_bundle / "bundle.json").read_bytes())
    wrong = {**raw["files"][0], "sha256": "0" * 64}
    raw["files"] = [wrong, *raw["files"]] if first else [*raw["files"], wrong]
    _copy(tiny_bundle, tmp_path / "bundle", canonical_json(raw))
    with pytest.raises(BundleFormatError, match="more than once"):
        ModelBundle.open(tmp_path / "bundle")


def _copy(bundle: Path, to: Path, manifest: bytes) -> None:
    shutil.copytree(bundle, to)
    (to / "bundle.json").write_bytes(manifest)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 400 MB, in a zip file of half of one."""
    return zip_bomb(tmp_path_factory.mktemp("bomb") / "bomb.zip")


def zip_bomb(path: Path, name: str = "model.weights.h5", size: int = 400_000_000) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        with archive.open(name, "w") as stream:
            for _ in range(size // 10_000_000):
                stream.write(bytes(10_000_000))
    return path


def open_as_keras(path: Path) -> None:
    plan(find_source(path), LoadChoices(), path.parent / "out")


@pytest.mark.parametrize(
    "reader",
    [
        open_as_keras,
        read_npz,
        lambda path: unzip_weights(path, path.parent),
        lambda path: unpack(path, path.parent / "unpacked"),
    ],
)
def test_a_zip_bomb_is_not_unpacked(reader: Callable[[Path], object], bomb: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(bomb, tmp_path))
    with pytest.raises(SourceError, match=r"unpacks from \d+ bytes to 400000002"):
        reader(path)
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["bomb.zip"]


def test_a_bomb_of_many_entries_counts_as_one(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for number in range(40):
            entry = tarfile.TarInfo(f"part{number}")
            entry.size = 10_000_000
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(SourceError, match="unpacks to more than"):
        unpack(path, tmp_path / "unpacked")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_entries_of_one_name_and_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("config.json", "[]")
    link = zipfile.ZipInfo("assets/words.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    for name, fault in (("twice", "more than once: config.json"), ("link", "are links: assets/words.txt")):
        with pytest.raises(SourceError, match=fault), open_zip(tmp_path / f"{name}.zip", name):
            raise AssertionError
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("saved_model.pb"), io.BytesIO())
    with pytest.raises(SourceError, match="more than once"):
        unpack(tmp_path / "twice.tar", tmp_path / "unpacked")


def test_an_entry_cannot_unpack_to_more_than_it_states(tmp_path: Path) -> None:
    data = bytearray(zip_bomb(tmp_path / "bomb.zip", size=300_000_000).read_bytes())
    stated = (300_000_000).to_bytes(4, "little")
    assert stated in data
    (tmp_path / "bomb.zip").write_bytes(data.replace(stated, (1000).to_bytes(4, "little")))
    with pytest.raises(ModelBundleError):
        unzip_weights(tmp_path / "bomb.zip", tmp_path)
    written = tmp_path / "model.weights.h5"
    assert not written.exists() or written.stat().st_size <= 1000
