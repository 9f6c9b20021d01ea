"""An import goes down only: the order of folders and files, as data, and what breaks it in one line each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.runs.jobs import PROJECT

# From the lowest up, a list per folder: what is named on one line may not import one another, except inside
# itself. A folder without a list of its own has files in any order that is no circle.
LAYERS = {
    "model_bundle": [
        "errors",
        "base",
        "bundle",
        "text",
        "runtime",
        "inference layers",
        "compare",
        "builders",
        "training quantize",
        "cli",
        "__main__",
    ],
    "model_bundle.builders": [
        "graphs source_folder deterministic known_settings",
        "weights licence tokenizer",
        "batch_probe",
        "assemble",
        "reference_vectors",
        "bert elmo tfhub keras",
    ],
    "beam_jobs": [
        "errors",
        "base",
        "store",
        "report",
        "pipeline",
        "job search",
        "runs sync embed classify worker_pool __main__",
    ],
    "beam_jobs.pipeline": [
        "global_window checkpoint class_settings read",
        "settings",
        "rows",
        "encode incremental",
        "write",
        "build",
    ],
    "beam_jobs.sync": ["documents mark progress", "store", "stores plan check", "apply", "__main__"],
    "beam_jobs.job": [
        "console own_output worker_processes",
        "flags",
        "dataflow",
        "plan",
        "forecast summary",
        "run",
        "launch",
    ],
}
# Where two layers of one line know each other: the first may import the second, never back.
BESIDE = {
    ("beam_jobs.pipeline.incremental", "beam_jobs.pipeline.encode"),
    ("model_bundle.builders.keras", "model_bundle.builders.bert"),
    ("model_bundle.builders.keras", "model_bundle.builders.tfhub"),
}


@dataclass(frozen=True)
class Import:
    """An import of a module of the packages, wherever in the file it stands."""

    importer: str
    imported: str
    names: tuple[str, ...]
    line: int

    def __str__(self) -> str:
        """The line that a failure shows."""
        return f"{self.importer}:{self.line} imports {self.imported} ({', '.join(self.names)})"


@cache
def modules() -> dict[str, ast.Module]:
    """Every module by its dotted name, parsed; a package goes by its own name."""
    found = {}
    for package in ("beam_jobs", "model_bundle"):
        for path in sorted((PROJECT / package).rglob("*.py")):
            name = ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(sources: dict[str, ast.Module]) -> Iterator[Import]:
    """Every import of one of our modules by another, inside functions too; those for types alone are none."""
    for importer, tree in sources.items():
        for node in _imports_of(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in sources:
                        yield Import(importer, alias.name, (), node.lineno)
            elif node.module:
                inner = [alias.name for alias in node.names if f"{node.module}.{alias.name}" in sources]
                for name in inner:
                    yield Import(importer, f"{node.module}.{name}", (), node.lineno)
                outer = tuple(alias.name for alias in node.names if alias.name not in inner)
                if outer and node.module in sources:
                    yield Import(importer, node.module, outer, node.lineno)


@cache
def _imports_of(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in _run_time_nodes(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def _run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _run_time_nodes(node)


def upward(found: Import) -> str | None:
    """Returns which order an import breaks; None where it goes down."""
    ours, theirs = found.importer.split("."), found.imported.split(".")
    if ours[0] != theirs[0]:
        return None if ours[0] == "beam_jobs" else "model_bundle never imports beam_jobs"
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    folder = ".".join(ours[:common])
    if folder not in LAYERS or common >= min(len(ours), len(theirs)):
        return None
    rank = {name: number for number, line in enumerate(LAYERS[folder]) for name in line.split()}
    a, b = ours[common], theirs[common]
    if a not in rank or b not in rank:
        return f"{folder}.{a if a not in rank else b} has no place in LAYERS"
    if rank[a] > rank[b] or (f"{folder}.{a}", f"{folder}.{b}") in BESIDE:
        return None
    return f"in {folder}, {a} stands {'below' if rank[a] < rank[b] else 'beside'} {b}"


def circles(edges: set[tuple[str, str]]) -> list[str]:
    """One circle, if there is any; the next one shows when this one is gone."""
    graph: dict[str, set[str]] = {}
    for a, b in edges:
        graph.setdefault(a, set()).add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" imported by ".join(error.args[1])]
    return []


def faults(sources: dict[str, ast.Module]) -> list[str]:
    """One line for each import that breaks a rule."""
    found = list(imports(sources))
    lines = [f"{one}: {why}" for one in found if (why := upward(one))]
    lines += [
        f"{one}: private names are for their own module"
        for one in found
        if any(name.startswith("_") and not name.startswith("__") for name in one.names)
    ]
    edges = {(one.importer, one.imported) for one in found if one.importer != one.imported}
    lines += [f"a circle of files: {circle}" for circle in circles(edges)]
    folders = {(a.rpartition(".")[0], b.rpartition(".")[0]) for a, b in edges}
    folders = {
        (a, b) for a, b in folders if a != b and not a.startswith(f"{b}.") and not b.startswith(f"{a}.")
    }
    lines += [f"a circle of folders: {circle}" for circle in circles(folders)]
    return lines


@cache
def faults_today() -> list[str]:
    return faults(modules())


def test_imports_go_down_and_names_stay_private() -> None:
    assert faults_today() == []


@pytest.mark.parametrize("folder", LAYERS)
def test_every_entry_of_a_folder_has_its_place(folder: str) -> None:
    path = PROJECT.joinpath(*folder.split("."))
    entries = {
        entry.stem for entry in path.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").exists()
    }
    assert entries - {"__init__"} == set(" ".join(LAYERS[folder]).split())


@pytest.mark.parametrize("package", ["beam_jobs", "model_bundle"])
def test_a_folder_has_about_a_dozen_entries(package: str) -> None:
    folders = [path.parent for path in (PROJECT / package).rglob("__init__.py")]
    for folder in folders:
        entries = [e.name for e in folder.iterdir() if e.suffix == ".py" or (e / "__init__.py").exists()]
        assert len(set(entries) - {"__init__.py"}) <= 14, folder


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        (
            "beam_jobs.base.records",
            "from beam_jobs.store.manifest import RunManifest",
            "base stands below store",
        ),
        ("beam_jobs.base.records", "def f():\n    from beam_jobs.job import plan", "base stands below job"),
        ("model_bundle.errors", "import beam_jobs.errors", "never imports beam_jobs"),
        ("beam_jobs.job.plan", "from beam_jobs.base.config import _check", "private names"),
        (
            "beam_jobs.store.manifest",
            "from beam_jobs.store.finished_run import FinishedRun",
            "a circle of files",
        ),
        ("beam_jobs.report.page", "import beam_jobs.somewhere", "has no place in LAYERS"),
    ],
)
def test_a_broken_rule_is_one_clear_line(module: str, line: str, said: str) -> None:
    sources = dict(modules())
    sources.setdefault("beam_jobs.somewhere", ast.parse(""))
    sources[module] = ast.parse(f"{ast.unparse(sources[module])}\n{line}\n")
    new = [fault for fault in faults(sources) if fault not in faults_today()]
    assert any(said in fault for fault in new), new


def test_for_types_alone_is_no_import() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    from beam_jobs.job import plan\n")
    assert not [*imports({"beam_jobs.base.records": tree, "beam_jobs.job.plan": ast.parse("")})]


def test_models_know_nothing_of_beam() -> None:
    for name, tree in modules().items():
        if not name.startswith("model_bundle"):
            continue
        heads = {
            alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
        }
        assert not heads & {"apache_beam", "beam_jobs"}, name


def test_the_table_is_the_one_of_the_architecture_page() -> None:
    pages = [*Path(PROJECT, "docs").rglob("architecture.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for package in ("beam_jobs", "model_bundle"):
            for name in " ".join(LAYERS[package]).replace("__main__", "").split():
                assert f"`{name}" in text or f"{name}/" in text, f"{page.name} leaves out {name}"
