"""What is installed and what is sent to workers: archives, dependencies, constraints."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from model_bundle.bundle.embedded import DIGESTS

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("beam_jobs", "model_bundle")
PYTHONS = ("3.11", "3.12", "3.13")
MAX_SDIST_BYTES = 1_000_000


EMBEDDED = "model_bundle/bundle/embedded/"


def package_files(*, models: bool) -> set[str]:
    """Every file of the two packages, relative to the checkout; those of embedded models only where asked."""
    paths = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    files = {str(path.relative_to(ROOT)) for path in paths if path.suffix != ".pyc"}
    return {file for file in files if models or not is_of_a_model(file)}


def is_of_a_model(file: str) -> bool:
    return file.startswith(EMBEDDED) and "/" in file.removeprefix(EMBEDDED)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, with folders beside the packages that are none."""
    copy = tmp_path_factory.mktemp("checkout")
    copy_checkout(copy)
    return copy


def copy_checkout(copy: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("launch", "tests", "benchmarks", "docs", "recipes"):
        (copy / name).mkdir()
        (copy / name / "__init__.py").touch()
        (copy / name / "test_something.py").touch()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``pip install`` and ``pip wheel`` make of a checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    copy.mkdir()
    copy_checkout(copy)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    run([sys.executable, "-c", build], copy)
    (found,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(found) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    """The archive, built as Dataflow's --setup_file builds it."""
    run([sys.executable, "setup.py", "-q", "sdist"], checkout)
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a worker gets when pip installs the archive."""
    folder = tmp_path_factory.mktemp("worker")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    run([sys.executable, "-c", build], source)
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sdist_is_small_and_holds_what_workers_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files(models=False) | {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= names
    beside = ("tests", "launch", "benchmarks", "docs", "recipes")
    assert not [name for name in names if name.split("/")[0] in beside]
    # The folders of models may be listed, empty; no file of them is there.
    assert not [name for name in names if is_of_a_model(name) and "." in name.rpartition("/")[2]]
    assert sdist.stat().st_size < MAX_SDIST_BYTES


def test_installed_files_are_the_two_packages_whole(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    assert sorted(path.name for path in installed.iterdir()) == sorted([*PACKAGES, info.name])
    found = {
        str(path.relative_to(installed)) for name in PACKAGES for path in (installed / name).rglob("*.*")
    }
    assert found == package_files(models=False)
    assert {
        "beam_jobs/py.typed",
        "model_bundle/py.typed",
        "model_bundle/text/sample_data/LICENSE.txt",
    } <= found
    assert (info / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_has_the_models_whole(wheel: Path) -> None:
    found = {
        str(path.relative_to(wheel))
        for name in PACKAGES
        for path in (wheel / name).rglob("*")
        if path.is_file()
    }
    assert found == package_files(models=True)
    for name, digest in DIGESTS.items():
        code = f"from model_bundle import ModelBundle; print(ModelBundle.open({name!r}).digest)"
        assert run([sys.executable, "-c", code], wheel).strip() == digest


def test_an_installation_without_models_says_where_they_are(installed: Path) -> None:
    for name in DIGESTS:
        code = f"from model_bundle import ModelBundle; ModelBundle.open({name!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=installed, capture_output=True, text=True, check=False
        )
        assert f"{name} ships with the package, but this installation lacks it" in done.stderr


def test_links_of_the_readme_work_without_the_repository(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    text = (info / "METADATA").read_text(encoding="utf-8")
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)]+)\)", without_code)
    pages = PROJECT["urls"]["Homepage"] + "/blob/main/"
    ours = [target.removeprefix(pages) for target in targets if target.startswith(pages)]
    assert len(ours) > 5
    assert [page for page in ours if not (ROOT / page.partition("#")[0]).exists()] == []
    assert [target for target in targets if not re.match(r"https?://|#", target)] == []
    assert "Description-Content-Type: text/markdown" in text


def test_commands_of_an_installation_are_there(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    found = dict(re.findall(r"^(\S+) = (\S+)$", (info / "entry_points.txt").read_text(), re.MULTILINE))
    assert found == PROJECT["scripts"]
    for target in found.values():
        module, _, name = target.partition(":")
        code = f"import {module}; assert {module}.{name}(['--help']) == 0"
        assert "examples:" in run([sys.executable, "-c", code], wheel)


def test_installed_package_finds_its_sample(installed: Path) -> None:
    code = (
        "import glob; from model_bundle.text.sample_data import sample_pattern; "
        "print(len(glob.glob(sample_pattern())))"
    )
    assert run([sys.executable, "-c", code], installed).strip() == "4"


def requirements(*extras: str) -> list[Requirement]:
    """The declared requirements, with those of extras (not of an extra that names this project)."""
    optional = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in optional[extra])]
    found = [Requirement(text) for text in texts]
    return [requirement for requirement in found if requirement.name != PROJECT["name"]]


def imported_modules(path: Path) -> Iterator[str]:
    """Names that a file imports absolutely: modules, and what may be one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # google.cloud belongs to nobody; google.cloud.storage does.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def owned_modules(requirement: Requirement) -> set[str]:
    """Modules that a distribution brings, as dotted names; the package of its name if not installed."""
    try:
        files = metadata.files(requirement.name) or []
    except metadata.PackageNotFoundError:
        return {canonicalize_name(requirement.name).replace("-", "_") + ".*"}
    names = (
        str(file).removesuffix(".py").removesuffix("/__init__") for file in files if file.suffix == ".py"
    )
    return {name.replace("/", ".") for name in names}


def undeclared(paths: list[Path], declared: list[Requirement], own: set[str]) -> set[str]:
    """Imports that neither the standard library nor a declared distribution brings."""
    owned = set.union(*(owned_modules(requirement) for requirement in declared))
    found = {name for path in paths for name in imported_modules(path)}
    foreign = {name for name in found if name.split(".")[0] not in own | sys.stdlib_module_names}
    return {name for name in foreign if owned.isdisjoint((name, *_parents(name)))}


def _parents(name: str) -> tuple[str, str]:
    """What brings a name: the module it is in, or its package as far as that is all one knows."""
    return name.rpartition(".")[0], name.partition(".")[0] + ".*"


def test_every_import_of_the_packages_is_declared() -> None:
    paths = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert not undeclared(
        paths, requirements("text", "s3", "azure", "hf", "postgres", "lancedb", "qdrant"), set(PACKAGES)
    )


def test_every_import_of_the_tests_is_declared() -> None:
    # Those in goldens/ run where the systems are installed that they record.
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "goldens"]
    own = {"tests", "benchmarks", "recipes", "tools", *PACKAGES, *(path.stem for path in paths)}
    assert not undeclared(paths, requirements("test", "text"), own)


def test_every_import_of_the_benchmarks_is_declared() -> None:
    # Those in systems/ run in the environment of whom they measure.
    paths = list((ROOT / "benchmarks").glob("*.py"))
    assert not undeclared(paths, requirements("bench"), {"benchmarks", *PACKAGES})


def test_every_import_of_the_recipes_is_declared() -> None:
    paths = list((ROOT / "recipes").rglob("*.py"))
    assert not undeclared(paths, requirements("recipes"), {"recipes", *PACKAGES})


def test_an_undeclared_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import torch\nfrom google.cloud import storage, bigquery\nimport os.path\n"
    )
    declared = [requirement for requirement in requirements() if requirement.name == "google-cloud-storage"]
    assert undeclared([tmp_path / "a.py"], declared, set()) == {"torch", "google.cloud.bigquery"}


def pins(python: str) -> dict[str, Version]:
    """The constraints that hold for a version of Python, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    held = [pin for pin in found if holds(pin, python)]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in held}


def holds(requirement: Requirement, python: str) -> bool:
    """Whether a requirement, or a pin, holds for a version of Python on Linux."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "extra": "gcp",  # of Beam; ours are in lists of their own
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def beam_gcp() -> list[Requirement]:
    """What apache-beam[gcp] brings, and apache-beam alone does not."""
    found = [Requirement(text) for text in metadata.requires("apache-beam") or []]
    return [one for one in found if one.marker and 'extra == "gcp"' in str(one.marker)]


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_are_within_the_ranges_of_beam_for_google_cloud(python: str) -> None:
    ours = {canonicalize_name(one.name) for one in requirements()}
    shared = [one for one in beam_gcp() if holds(one, python) and canonicalize_name(one.name) in ours]
    assert len(shared) >= 8
    assert [one for one in shared if pins(python)[canonicalize_name(one.name)] not in one.specifier] == []


def test_dataflow_and_cloud_storage_need_none_of_the_rest_of_beam_for_google_cloud() -> None:
    ours = {canonicalize_name(one.name) for one in requirements()}
    rest = [one for one in beam_gcp() if canonicalize_name(one.name) not in ours]
    assert len(rest) > 15
    # Of what is not installed, the names of modules are guessed; it cannot be imported anyway.
    forbidden = set.union(*(owned_modules(one) for one in rest))
    forbidden -= set.union(*(owned_modules(one) for one in requirements() if one.name.startswith("google")))
    tops = {name for name in forbidden if name.rpartition(".")[0] not in forbidden}
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {tops!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp import gcsio
from apache_beam.runners.dataflow import DataflowRunner
from apache_beam.runners.dataflow.internal import apiclient
from google.cloud import dataflow_v1beta3, resourcemanager_v3
print(FileSystems.get_filesystem("gs://bucket/object").scheme(), apiclient.DataflowApplicationClient.__name__)
"""
    assert run([sys.executable, "-c", code], ROOT).split() == ["gs", "DataflowApplicationClient"]


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_requirement_within_its_range(python: str) -> None:
    pinned = pins(python)
    asked = requirements("text", "s3", "azure", "hf", "test", "dev", "bench")
    for requirement in (one for one in asked if holds(one, python)):
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, requirement


def hashed(name: str) -> dict[str, list[str]]:
    """The lines of a file for the image, each with its hashes."""
    blocks = re.sub(r" \\\n +", " ", (ROOT / "launch" / name).read_text()).splitlines()
    pairs = (block.split(" --hash=") for block in blocks if not block.startswith("#"))
    return {line: hashes for line, *hashes in pairs}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_the_image_installs_what_constraints_pin_by_hash(name: str) -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    found = hashed(name)
    assert [line for line in found if line not in constraints] == [], "run: python launch/pin_image.py"
    assert all(hashes for hashes in found.values())
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for hashes in found.values() for one in hashes)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_image_has_all_that_its_packages_ask_for(python: str) -> None:
    pins_of_image = [Requirement(line) for line in hashed("requirements.txt")]
    names = {canonicalize_name(pin.name) for pin in pins_of_image if holds(pin, python)}
    asked = [one for one in requirements() if holds(one, python)]
    for pin in pins_of_image:
        with suppress(metadata.PackageNotFoundError):  # of another version of Python
            found = map(Requirement, metadata.requires(pin.name) or [])
            asked += [one for one in found if "extra" not in str(one.marker) and holds(one, python)]
    assert {canonicalize_name(one.name) for one in asked} - names == set()
    assert set(hashed("requirements-build.txt")) < set(hashed("requirements.txt"))


def test_constraints_are_plain_pins() -> None:
    # pip refuses extras in constraints, and an address of an index would not be everybody's.
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.match(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ; .+)?$", line), line
        assert "://" not in line


def test_classifiers_name_the_versions_that_are_allowed() -> None:
    listed = {text.split(" :: ")[-1] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    assert listed == set(PYTHONS)
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert [minor for minor in range(8, 20) if f"3.{minor}.0" in allowed] == [11, 12, 13]


def test_the_archive_for_workers_asks_for_neither_beam_nor_tensorflow(sdist: Path, installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    asked = set(
        re.findall(r"^Requires-Dist: ([A-Za-z0-9_.-]+)", (info / "METADATA").read_text(), re.MULTILINE)
    )
    names = {canonicalize_name(name) for name in asked}
    assert not names & {"apache-beam", "tensorflow", "tensorflow-hub", "tf-keras"}
    assert {"numpy", "pyarrow", "tokenizers", "tensorflow-text", "pytest"} <= names  # the last two by extras
    with tarfile.open(sdist) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("pyproject.toml"))
        stream = archive.extractfile(member)
        assert stream is not None
        light = {
            Requirement(text).name
            for text in tomllib.loads(stream.read().decode())["project"]["dependencies"]
        }
    heavy = {requirement.name for requirement in requirements()}
    assert heavy - light == {"apache-beam", "tensorflow", "tensorflow-hub", "tf-keras"}
