"""Where a module may lie, and what is said where there is none, half of one, or one that is no use."""

from __future__ import annotations

import io
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from model_bundle.builders.tfhub.archive import unpack
from model_bundle.builders.tfhub.build import build_hub_bundle
from model_bundle.builders.tfhub.handle import cache_folder, fetch_hint, fetched_module, import_hub
from model_bundle.builders.tfhub.load import load_module
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.cli.main import main
from model_bundle.errors import SourceError
from tests.support.models.hub_modules import Toy, save_signatures

ELMO = "https://tfhub.dev/google/elmo/3"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy = Toy()
    path = tmp_path_factory.mktemp("hub") / "toy"
    return save_signatures(path, toy, question=lambda inputs: {"q": toy.mean(inputs)}, answer=_pair(toy))


def _pair(toy: Toy) -> Callable[[Any], dict[str, Any]]:
    return lambda inputs: {"a": -toy.mean(inputs)}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every request is refused at once; gives the cache folder."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pack(module: Path, archive: Path, folder: str = "") -> Path:
    """Packs a module, at the top of an archive or in a folder of it."""
    files = [path for path in sorted(module.rglob("*")) if path.is_file()]
    names = [(Path(folder) / path.relative_to(module)).as_posix() for path in files]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as stored:
            for path, name in zip(files, names, strict=True):
                stored.write(path, name)
    else:
        with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as tar:
            for path, name in zip(files, names, strict=True):
                tar.add(path, name)
    return archive


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "folder"),
    [("m.tar.gz", ""), ("m.tgz", "./top"), ("m.tar", "top"), ("m.ZIP", "top"), ("m.zip", "")],
)
def test_archives_are_unpacked_and_cleaned_up(module: Path, tmp_path: Path, name: str, folder: str) -> None:
    archive = pack(module, tmp_path / name.lower(), folder).rename(tmp_path / name)
    with fetched_module(str(archive)) as found:
        assert files_of(found.path) == files_of(module)
        assert found.location == name
    assert not found.path.exists()


def test_folders_urls_of_files_and_other_storage(module: Path) -> None:
    remote = "ram://bucket/modules/toy"
    for folder, _, names in tf.io.gfile.walk(str(module)):
        inside = folder.removeprefix(str(module))
        tf.io.gfile.makedirs(remote + inside)
        for name in names:
            tf.io.gfile.copy(f"{folder}/{name}", f"{remote}{inside}/{name}", overwrite=True)
    for handle, location in ((str(module), "toy"), (f"file://{module}", "toy"), (remote + "/", remote + "/")):
        with fetched_module(handle) as found:
            assert files_of(found.path) == files_of(module)
            assert (found.name, found.location) == ("toy", location)


def test_an_archive_on_other_storage(module: Path, tmp_path: Path) -> None:
    archive = pack(module, tmp_path / "toy.tar.gz")
    tf.io.gfile.copy(str(archive), "ram://bucket/toy.tar.gz", overwrite=True)
    with fetched_module("ram://bucket/toy.tar.gz") as found:
        assert files_of(found.path) == files_of(module)
        assert found.name == "toy"


def _entry(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (tarfile.TarInfo("../outside"), "would be outside"),
        (tarfile.TarInfo("/absolute"), "would be outside"),
        (tarfile.TarInfo("a/../../outside"), "would be outside"),
        (_entry("link", tarfile.SYMTYPE), "is a link or special file"),
        (_entry("hard", tarfile.LNKTYPE), "is a link or special file"),
        (_entry("pipe", tarfile.FIFOTYPE), "is a link or special file"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_tar_entries_that_reach_out_are_refused(tmp_path: Path, info: tarfile.TarInfo, problem: str) -> None:
    archive = tmp_path / "bad.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(info, io.BytesIO())
    with pytest.raises(SourceError, match=problem):
        unpack(archive, tmp_path / "in" / "here")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.tar", "here", "in"]


@pytest.mark.parametrize("name", ["../outside", "/absolute", "link"])
def test_zip_entries_that_reach_out_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "bad.zip"
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
    with zipfile.ZipFile(archive, "w") as stored:
        stored.writestr(info, "/etc/passwd")
    with pytest.raises(SourceError, match=r"(point outside it|are links): .*It was not unpacked"):
        unpack(archive, tmp_path / "in" / "here")
    assert not list((tmp_path / "in" / "here").iterdir())
    assert not (tmp_path / "in" / "outside").exists()


@pytest.mark.parametrize("name", ["cut.tar.gz", "cut.zip"])
def test_damaged_archives_and_other_files(module: Path, tmp_path: Path, name: str) -> None:
    archive = pack(module, tmp_path / name)
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"damaged or incomplete .* Download it again|incomplete zip file"):
        unpack(archive, tmp_path / "folder")
    with pytest.raises(
        SourceError, match=r"not an archive that can be unpacked \(.tar, .tar.gz, .tgz, .zip\)"
    ):
        unpack(module / "saved_model.pb", tmp_path / "other")


def test_a_handle_that_does_not_resolve_names_the_cache_and_the_way_through_kaggle(
    no_network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "hub", ELMO, "--output", str(tmp_path / "bundle")]) == 2
    message = capsys.readouterr().err
    # The digest that tensorflow_hub gives the handle.
    assert f"looked for: {no_network}/58051eb9ff2f7c649b7c541acc518dac54e786ca" in message
    assert 'kagglehub.model_download("OWNER/MODEL/' in message
    assert "python -m model_bundle build hub DIR" in message
    assert not (tmp_path / "bundle").exists()


def test_where_the_cache_is_without_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/scratch")
    assert cache_folder(ELMO) == f"/scratch/tfhub_modules/{sha1(ELMO.encode()).hexdigest()}"


def test_a_module_in_the_cache_needs_no_network(module: Path, no_network: Path) -> None:
    no_network.mkdir()
    Path(cache_folder(ELMO)).symlink_to(module)
    with fetched_module(ELMO) as found:
        assert found.path.samefile(module)
        assert (found.name, found.location) == ("google-elmo-3", ELMO)


def test_a_secret_in_an_address_is_not_recorded(module: Path, no_network: Path) -> None:
    no_network.mkdir()
    handle = "https://user:word@example.org/m/1.tar.gz?token=pss-pss"
    Path(cache_folder(handle)).symlink_to(module)
    with fetched_module(handle) as found:
        assert found.location == "https://example.org/m/1.tar.gz"
    other = handle.replace("m/1", "m/2")
    with pytest.raises(SourceError) as caught, fetched_module(other):
        pass
    assert "pss-pss" not in str(caught.value)
    assert "user:word" not in str(caught.value)


@pytest.mark.usefixtures("no_network")
def test_a_half_filled_cache_folder_is_named_with_what_to_delete() -> None:
    folder = Path(cache_folder(ELMO))
    (folder / "variables").mkdir(parents=True)
    expected = rf"{folder} of {ELMO} is incomplete: .* but variables. Delete {folder} and .*descriptor.txt"
    with pytest.raises(SourceError, match=expected), fetched_module(ELMO):
        pass


@pytest.mark.usefixtures("no_network")
def test_weights_that_are_missing_in_the_cache_are_named_with_what_to_delete(module: Path) -> None:
    folder = Path(cache_folder(ELMO))
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes((module / "saved_model.pb").read_bytes())
    with fetched_module(ELMO) as found, pytest.raises(SourceError, match=f"does not load.* Delete {folder}"):
        load_module(found)
    (folder / "saved_model.pb").write_bytes(b"<html>not found</html>")
    with fetched_module(ELMO) as found, pytest.raises(SourceError, match=f"readable.* Delete {folder}"):
        load_module(found)


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (ELMO, "OWNER/MODEL/tensorFlow1 or tensorFlow2/VARIATION/VERSION"),
        ("google/elmo/tensorFlow1/elmo/3", '"google/elmo/tensorFlow1/elmo/3"'),
        ("https://www.kaggle.com/models/google/elmo/tensorFlow1/elmo/3", '"google/elmo/tensorFlow1/elmo/3"'),
        (
            "https://www.kaggle.com/models/google/elmo/frameworks/TensorFlow1/variations/elmo/versions/3",
            '"google/elmo/tensorFlow1/elmo/3"',
        ),
        ("https://example.org/model", "Check the URL and the network"),
        ("models/elmo", ""),
    ],
)
def test_the_way_around_is_told_as_far_as_it_is_known(handle: str, expected: str) -> None:
    found = fetch_hint(handle)
    assert expected in found
    assert ("kagglehub" in found) == ("/" in expected)


def test_folders_that_are_no_modules(module: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match=r"is not an existing folder or archive\.$"),
        fetched_module(str(tmp_path / "none")),
    ):
        pass
    with pytest.raises(SourceError, match=r"expected saved_model.pb or saved_model.pbtxt, found nothing"):
        build_hub_bundle(str(tmp_path), HubChoices(), tmp_path / "bundle")
    expected = rf"found toy. Name one of: {module}"
    with pytest.raises(SourceError, match=expected), fetched_module(str(module.parent)):
        pass


def test_signatures_are_listed_where_none_or_several_fit(module: Path, tmp_path: Path) -> None:
    several = r"(?s)several usable signatures.* --signature:.*  answer\(inputs: string\[\?\]\)\n  question\("
    with pytest.raises(SourceError, match=several):
        build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")
    with pytest.raises(SourceError, match=r"(?s)--signature elmo: expected one of toy.*  answer\("):
        build_hub_bundle(str(module), HubChoices(signature="elmo"), tmp_path / "bundle")
    built = build_hub_bundle(str(module), HubChoices(signature="answer"), tmp_path / "bundle").bundle
    assert (built.manifest.signature, built.manifest.default_output) == ("answer", "a")


def test_a_module_for_something_else_is_refused(tmp_path: Path) -> None:
    pictures = tf.Module()
    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")
    call = tf.function(lambda images: {"logits": tf.reduce_mean(images, [1, 2])}, input_signature=[spec])
    tf.saved_model.save(pictures, str(tmp_path / "pictures"), call)
    expected = r"(?s)A signature: expected one .*serving_default\(images: float32\[\?, 8, 8, 3\]\)"
    with pytest.raises(SourceError, match=expected):
        build_hub_bundle(str(tmp_path / "pictures"), HubChoices(), tmp_path / "bundle")
    tf.saved_model.save(pictures, str(tmp_path / "bare"))
    with pytest.raises(SourceError, match=r"(?s)It has:\n  none"):
        build_hub_bundle(str(tmp_path / "bare"), HubChoices(), tmp_path / "bundle")


def test_outputs_that_are_no_vectors_are_listed(tmp_path: Path) -> None:
    toy = Toy()

    def lengths(inputs: Any) -> dict[str, Any]:
        return {"num_characters": tf.strings.length(inputs), "states": toy.words(inputs)[0]}

    module = save_signatures(tmp_path / "module", toy, serving_default=lengths)
    expected = r"(?s)no vectors:.*num_characters is left out: it is int32\[4\].*states .*padding"
    with pytest.raises(SourceError, match=expected):
        build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")


def test_tensorflow_hub_comes_without_its_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert import_hub().__name__ == "tensorflow_hub"


def test_an_entry_larger_than_the_disk_is_refused_before_it_is_written(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.tar"
    info = tarfile.TarInfo("saved_model.pb")
    info.size = 1 << 60
    archive.write_bytes(info.tobuf())  # the announcement alone
    with pytest.raises(SourceError, match=r"'saved_model.pb' has 1152921504606846976 bytes, and only"):
        unpack(archive, tmp_path / "unpacked")
    assert list((tmp_path / "unpacked").iterdir()) == []
