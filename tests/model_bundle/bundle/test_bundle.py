"""A bundle's files and digests: whatever is changed, it is refused before TensorFlow is there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.bundle.bundle import ModelBundle, split_pin
from model_bundle.bundle.digest import bundle_digest
from model_bundle.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, BundleManifest, canonical_json
from model_bundle.errors import BundleFormatError, BundleIntegrityError, ModelBundleError

ROOT = Path(__file__).parents[3]
# Opens each place as an Encoder would; TensorFlow must not be imported on the way to a refusal.
OPEN_ALL = """
import sys
from model_bundle import Encoder, ModelBundleError
for place in sys.argv[1:]:
    try:
        Encoder(place)
    except ModelBundleError as error:
        print(type(error).__name__)
    else:
        print("opened")
sys.exit("TensorFlow was imported" if "tensorflow" in sys.modules else 0)
"""


@pytest.fixture
def bundle(build_tiny: Callable[[str], ModelBundle], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(build_tiny("tiny_bert").path, tmp_path / "bundle"))


def files_of(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def test_an_untouched_copy_opens_and_has_the_same_digest(
    bundle: Path, build_tiny: Callable[[str], ModelBundle]
) -> None:
    built = build_tiny("tiny_bert")
    opened = ModelBundle.open(bundle)
    assert opened.digest == built.digest == bundle_digest(opened.manifest)
    assert ModelBundle.open(f"{bundle}@sha256:{built.digest.upper()}").digest == built.digest


def test_any_changed_byte_of_any_file_is_noticed(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(build_tiny("tiny_bert").path, tmp_path / "bundle"))
    names = files_of(path)

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(names), st.integers(min_value=0), st.integers(1, 255))
    def change(name: str, position: int, difference: int) -> None:
        whole = (path / name).read_bytes()
        spoiled = bytearray(whole)
        spoiled[position % len(whole)] ^= difference
        (path / name).write_bytes(spoiled)
        try:
            # What is left of a changed bundle.json may be no bundle at all, or one of other files.
            with pytest.raises((BundleIntegrityError, BundleFormatError)):
                ModelBundle.open(f"{path}@sha256:{digest}")
        finally:
            (path / name).write_bytes(whole)

    digest = ModelBundle.open(path).digest
    change()
    assert ModelBundle.open(path).digest == digest


def add_file(path: Path) -> None:
    (path / "tokenizer" / "extra.txt").write_text("x")


def remove_file(path: Path) -> None:
    (path / "golden.npz").unlink()


def replace_by_link(path: Path) -> None:
    target = path.parent / "elsewhere"
    (path / "LICENSE").rename(target)
    (path / "LICENSE").symlink_to(target)


def link_folder(path: Path) -> None:
    (path / "tokenizer").rename(path.parent / "tokenizer")
    (path / "tokenizer").symlink_to(path.parent / "tokenizer")


def add_pipe(path: Path) -> None:
    os.mkfifo(path / "pipe")


def truncate(path: Path) -> None:
    file = path / "saved_model" / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-1])


def reformat_manifest(path: Path) -> None:
    file = path / MANIFEST_NAME
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))


def list_another(path: Path, name: str) -> None:
    """Lists a file beside the bundle's own, with the right size and digest."""
    content = b"secret"
    (path.parent / "secret").write_bytes(content)
    raw = json.loads((path / MANIFEST_NAME).read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    raw["files"].append({"path": name, "size": len(content), "sha256": digest})
    (path / MANIFEST_NAME).write_bytes(canonical_json(raw))


def list_a_path_upwards(path: Path) -> None:
    list_another(path, "tokenizer/../../secret")


def list_an_absolute_path(path: Path) -> None:
    list_another(path, str(path.parent / "secret"))


def list_a_link(path: Path) -> None:
    """A link whose target is what the manifest says."""
    list_another(path, "linked")
    (path / "linked").symlink_to(path.parent / "secret")


FAULTS: dict[Callable[[Path], None], str] = {
    add_file: r"not listed: tokenizer/extra\.txt",
    remove_file: r"missing: golden\.npz",
    replace_by_link: "LICENSE is a link or special file",
    link_folder: "tokenizer is a link or special file",
    add_pipe: "pipe is a link or special file",
    truncate: r"saved_model/saved_model\.pb: \d+ bytes, listed \d+",
    reformat_manifest: "not in its canonical form",
    list_a_path_upwards: r"outside of the folder: 'tokenizer/\.\./\.\./secret'",
    list_an_absolute_path: "outside of the folder: '/.*secret'",
    list_a_link: "linked is a link or special file",
}


def test_a_file_more_or_less_anywhere_is_noticed(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(build_tiny("tiny_bert").path, tmp_path / "bundle"))
    names = [name for name in files_of(path) if name != MANIFEST_NAME]
    folders = sorted({file.parent for file in path.rglob("*")})
    letters = st.characters(exclude_characters="/\0", exclude_categories=("Cs", "Cc"))

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(folders), st.text(letters, max_size=20), st.sampled_from(names), st.booleans())
    def change(folder: Path, new: str, name: str, link: bool) -> None:
        extra = folder / f"x{new}"
        if link:
            extra.symlink_to(path / name)
        else:
            extra.write_text("x")
        with pytest.raises(BundleIntegrityError, match=r"not listed|is a link"):
            ModelBundle.open(path)
        extra.unlink()
        (path / name).rename(tmp_path / "away")
        with pytest.raises(BundleIntegrityError, match="missing"):
            ModelBundle.open(path)
        (tmp_path / "away").rename(path / name)

    change()
    ModelBundle.open(path)


def link_manifest(manifest: Path) -> None:
    manifest.rename(manifest.parents[1] / "elsewhere")
    manifest.symlink_to(manifest.parents[1] / "elsewhere")


def make_manifest_a_pipe(manifest: Path) -> None:
    manifest.unlink()
    os.mkfifo(manifest)


def blow_up_manifest(manifest: Path) -> None:
    os.truncate(manifest, MAX_MANIFEST_BYTES + 1)


@pytest.mark.parametrize("spoil", [link_manifest, make_manifest_a_pipe, blow_up_manifest])
def test_a_manifest_that_is_no_plain_file_is_not_read(spoil: Callable[[Path], None], bundle: Path) -> None:
    spoil(bundle / MANIFEST_NAME)
    with pytest.raises(BundleFormatError, match="is a link or special file, or larger than"):
        ModelBundle.open(bundle)


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_other_changes_are_named(spoil: Callable[[Path], None], bundle: Path) -> None:
    spoil(bundle)
    with pytest.raises(BundleIntegrityError, match=FAULTS[spoil]):
        ModelBundle.open(bundle)


def test_a_pin_proves_which_bundle_it_is(bundle: Path) -> None:
    manifest = BundleManifest.read(bundle).model_copy(update={"licence": "MIT"})
    digest = ModelBundle.open(bundle).digest
    (bundle / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    assert ModelBundle.open(bundle).manifest.licence == "MIT"  # whole in itself, and another
    with pytest.raises(BundleIntegrityError, match=f"pinned is {digest}"):
        ModelBundle.open(f"{bundle}@sha256:{digest}")


@pytest.mark.parametrize("pin", ["", "abc", "g" * 64, "0" * 63, "0" * 65])
def test_a_pin_that_is_no_digest_is_refused(pin: str) -> None:
    with pytest.raises(BundleFormatError, match="64 hexadecimal digits"):
        split_pin(f"somewhere@sha256:{pin}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "has format version None"),
        (b'{"format_version": 2}', "has format version 2"),
        (b'{"format_version": 1}', "does not describe a model bundle"),
    ],
)
def test_a_manifest_that_is_none_says_what_is_wrong(content: bytes, message: str, bundle: Path) -> None:
    (bundle / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(BundleFormatError, match=message):
        ModelBundle.open(bundle)


def test_an_unknown_field_is_an_error(bundle: Path) -> None:
    content = json.loads((bundle / MANIFEST_NAME).read_text())
    (bundle / MANIFEST_NAME).write_text(json.dumps({**content, "surprise": 1}))
    with pytest.raises(BundleFormatError, match="surprise"):
        ModelBundle.open(bundle)


def test_spoiled_bundles_are_refused_before_tensorflow_is_imported(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    places = []
    for spoil in FAULTS:
        place = Path(shutil.copytree(build_tiny("tiny_bert").path, tmp_path / spoil.__name__ / "bundle"))
        spoil(place)
        places.append(str(place))
    pinned = f"{build_tiny('tiny_bert').path}@sha256:{'0' * 64}"
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL, *places, pinned, str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["BundleIntegrityError"] * (len(places) + 1) + ["BundleFormatError"]


def test_every_error_of_the_package_can_be_caught_as_one() -> None:
    from model_bundle import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, ModelBundleError) for kind in kinds)


def test_a_bundle_of_an_earlier_release_keeps_its_digest(bundle: Path) -> None:
    """Fields that a later release adds with a default must not change what an older bundle is."""
    path = bundle / MANIFEST_NAME
    raw = json.loads(path.read_bytes())
    del raw["min_batch"], raw["batch_dependent"]
    path.write_bytes(canonical_json(raw))
    opened = ModelBundle.open(bundle)
    assert opened.digest == hashlib.sha256(path.read_bytes()).hexdigest() != bundle_digest(opened.manifest)
    assert opened.manifest.min_batch == 1
