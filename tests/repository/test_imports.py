"""What imports what: which way, how late, and that steps travel by name."""

from __future__ import annotations

import ast
import json
import pickletools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler

from beam_jobs.base.config import ReadOptions
from beam_jobs.pipeline.encode.transform import EncodeDocuments
from beam_jobs.pipeline.read.transform import ReadDocuments
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.description import describe_run, new_run
from beam_jobs.pipeline.write.transform import RunInputs, WriteRun
from tests.support.runs.jobs import PROJECT, write_texts

HEAVY = {"apache_beam", "tensorflow", "transformers", "keras", "tf_keras", "tensorflow_hub", "grpc"}


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Returns each import of a file, and whether it happens when the file is imported."""
    tree = ast.parse(path.read_text())
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            yield name, id(node) not in late


def _files(package: str) -> list[Path]:
    return sorted((PROJECT / package).rglob("*.py"))


@pytest.mark.parametrize("path", _files("model_bundle"), ids=str)
def test_bundles_know_no_beam_no_jobs_and_no_arrow(path: Path) -> None:
    found = {name.split(".")[0] for name, _ in _imports(path)}
    # Vectors of old may lie in Parquet: comparing with them reads it, and only then.
    allowed = {"pyarrow"} if path == PROJECT / "model_bundle" / "base" / "tables.py" else set()
    assert not (found - allowed) & {"apache_beam", "beam_jobs", "pyarrow"}
    assert not {name for name, early in _imports(path) if early} & {"pyarrow", "pyarrow.parquet"}


@pytest.mark.parametrize("path", _files("beam_jobs"), ids=str)
def test_jobs_know_no_tensorflow(path: Path) -> None:
    found = {name.split(".")[0] for name, _ in _imports(path)}
    assert not found & {"tensorflow", "keras", "tf_keras", "transformers"}


def _modules_loaded_by(code: str) -> list[str]:
    """Runs code in a fresh process; returns the names of all modules that it loads."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def _loaded_by(code: str) -> set[str]:
    """Runs code in a fresh process; returns the top-level packages that it loads."""
    return {name.split(".")[0] for name in _modules_loaded_by(code)}


@pytest.mark.parametrize(
    "code",
    [
        "import beam_jobs",
        "import beam_jobs.job.flags.parsers; beam_jobs.job.flags.parsers.embed_parser().format_help()",
        "import model_bundle",
        "from beam_jobs import Document, DeadLetter, ReadOptions",
        (
            "import contextlib, beam_jobs.embed\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
            "    beam_jobs.embed.main(['--help'])"
        ),
        (
            "import contextlib, beam_jobs.classify\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
            "    beam_jobs.classify.main(['--help'])"
        ),
        "import beam_jobs.runs.__main__; beam_jobs.runs.__main__.runs_parser().format_help()",
        "import beam_jobs.search.__main__; beam_jobs.search.__main__.search_parser().format_help()",
        "import beam_jobs.sync.__main__; beam_jobs.sync.__main__.sync_parser().format_help()",
    ],
)
def test_help_and_names_are_there_without_beam_and_tensorflow(code: str) -> None:
    loaded = _loaded_by(code)
    assert not loaded & HEAVY
    assert "pyarrow" not in loaded


def test_a_wrong_flag_of_ours_is_told_without_beam() -> None:
    code = "import contextlib, beam_jobs.embed\nassert beam_jobs.embed.main(['--max_tokens', 'x']) == 2"
    assert not _loaded_by(code) & HEAVY


def test_reading_a_bundle_and_submitting_a_job_need_no_tensorflow(tiny_bundle: Path) -> None:
    code = (
        "from beam_jobs import EncodeSettings, EncodeDocuments, ReadDocuments, WriteRun\n"
        f"EncodeSettings.resolve({str(tiny_bundle)!r}); EncodeDocuments; ReadDocuments; WriteRun"
    )
    loaded = _loaded_by(code)
    assert "apache_beam" in loaded
    assert not loaded & {"tensorflow", "transformers", "keras"}


def test_help_loads_far_less_than_beam() -> None:
    """Modules and not seconds: a busy machine loads no more of them than a quiet one."""
    helping = _modules_loaded_by(
        "import beam_jobs.job.flags.parsers; beam_jobs.job.flags.parsers.embed_parser().format_help()"
    )
    assert len(helping) < len(_modules_loaded_by("import apache_beam")) / 2


def _dofns(pipeline: Any) -> Iterator[Any]:
    class Collect(beam.pipeline.PipelineVisitor):  # type: ignore[misc]  # Beam is not typed
        def visit_transform(self, node: Any) -> None:
            found.append(node.transform)

        def enter_composite_transform(self, node: Any) -> None:
            found.append(node.transform)

    found: list[Any] = []
    pipeline.visit(Collect())
    for transform in found:
        yield transform
        yield from (getattr(transform, name) for name in ("fn", "dofn") if hasattr(transform, name))


def test_steps_are_pickled_by_name(tmp_path: Path, tiny_bundle: Path) -> None:
    """A class pickled by value carries the submitting machine's paths and breaks elsewhere."""
    source = write_texts(tmp_path / "in.jsonl", ["a cat"])
    settings = EncodeSettings.resolve(str(tiny_bundle))
    options = new_run(str(tmp_path / "out"))
    pipeline = beam.Pipeline()
    for limit in (None, 3):
        read = pipeline | f"Read{limit}" >> ReadDocuments(
            ReadOptions((str(source),), limit=limit), redistribute=limit is None
        )
        encode = EncodeDocuments(settings)
        rows = read.documents | f"Encode{limit}" >> encode
        numbers = pipeline | f"Numbers{limit}" >> beam.Create([1])
        inputs = RunInputs(rows.rows, rows.dead_letters, numbers, read.dead_files)
        inputs | f"Write{limit}" >> WriteRun(options, encode.schema, describe_run(settings))
    ours = [step for step in _dofns(pipeline) if type(step).__module__.startswith("beam_jobs")]
    assert {type(step).__name__ for step in ours} >= {"EncodeDoFn", "_WriteShardsDoFn", "_CommitDoFn"}
    for step in ours:
        if isinstance(step, beam.DoFn):
            assert not _by_value(step), type(step)
    assert _by_value(_made_here())


def _by_value(value: Any) -> list[str]:
    """Finds the signs of a class or function that was pickled whole: cloudpickle's own constructors."""
    data = pickler.loads, pickler.dumps(value, enable_trace=False)
    raw = _unpacked(data[1])
    strings = [arg for _, arg, _ in pickletools.genops(raw) if isinstance(arg, str)]
    return [s for s in strings if s in ("_make_skeleton_class", "_make_function", "_builtin_type")]


def _unpacked(data: bytes) -> bytes:
    import base64
    import bz2
    import zlib

    raw = base64.b64decode(data)
    try:
        return zlib.decompress(raw)
    except zlib.error:
        return bz2.decompress(raw)


def _made_here() -> Any:
    class Local(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
        def process(self, element: Any) -> Any:
            yield element

    return Local()
