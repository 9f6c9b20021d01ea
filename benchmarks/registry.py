"""Every system by name, and how to start it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.models import Model
from benchmarks.worker import ROOT, System

DEFAULT_PEERS_PYTHON = ROOT / "benchmarks" / ".peers" / "bin" / "python"
PEAK = "matrix_peak"
REFERENCE = "sentence_transformers_float32"
PRECISIONS = ("float32", "bfloat16", "int8", "int8_bfloat16", "int7")
_SENTENCES = "sentence_transformers_loop"
# Name: label, module, precision, more flags. The name ends with the precision.
_LOOPS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "ours_float32": ("this project, float32", "ours", "float32", ()),
    "ours_bfloat16": ("this project, bfloat16", "ours", "bfloat16", ()),
    "ours_int8": ("this project, int8", "ours", "int8", ()),
    "ours_int8_bfloat16": ("this project, int8_bfloat16", "ours", "int8_bfloat16", ()),
    "ours_int7": ("this project, int7", "ours", "int7", ()),
    REFERENCE: ("sentence-transformers, float32", _SENTENCES, "float32", ()),
    "sentence_transformers_bfloat16": ("sentence-transformers, bfloat16", _SENTENCES, "bfloat16", ()),
    "sentence_transformers_onnx_int8": (
        "sentence-transformers, ONNX qint8",
        _SENTENCES,
        "int8",
        ("--backend", "onnx"),
    ),
    "sentence_transformers_openvino_int8": (
        "sentence-transformers, OpenVINO qint8",
        _SENTENCES,
        "int8",
        ("--backend", "openvino"),
    ),
    "onnxruntime_float32": ("ONNX Runtime, float32", "onnxruntime_loop", "float32", ()),
    "openvino_float32": ("OpenVINO, float32", "openvino_loop", "float32", ()),
    "openvino_bfloat16": ("OpenVINO, bfloat16", "openvino_loop", "bfloat16", ()),
    "openvino_int8": ("OpenVINO, qint8", "openvino_loop", "int8", ()),
}
LOOP_NAMES = tuple(_LOOPS)
JOB_NAMES = (
    *("job_float32", "job_bfloat16", "job_int8", "job_int8_bfloat16"),
    *("beam_mltransform", "beam_runinference", "beam_runinference_by_length"),
)
_JOB_LABELS = {
    "job_float32": "this project's job, float32",
    "job_bfloat16": "this project's job, bfloat16",
    "job_int8": "this project's job, int8",
    "job_int8_bfloat16": "this project's job, int8_bfloat16",
    "beam_mltransform": "Beam MLTransform + SentenceTransformerEmbeddings, float32",
    "beam_runinference": "Beam RunInference on our SavedModel, float32",
    "beam_runinference_by_length": "Beam RunInference on our SavedModel, batch_length_fn, float32",
}


def is_ours(name: str) -> bool:
    """Whether a system runs in the environment of this project."""
    return name.startswith(("ours_", "job_"))


@dataclass(frozen=True)
class Job:
    """A command from text to Parquet; ``command`` is called with the input file and a new folder."""

    name: str
    label: str
    command: Callable[[Path, Path], list[str]]


def check_names(names: Sequence[str], peers_python: Path, held_to: str | None = None) -> None:
    """Rejects unknown names, peers without their environment, and what cannot be held to instructions.

    Raises:
        BenchmarkError: lists the known names, or how to create the environment.
    """
    unknown = sorted(set(names) - {*LOOP_NAMES, *JOB_NAMES})
    if unknown:
        known = ", ".join([*LOOP_NAMES, *JOB_NAMES])
        raise BenchmarkError(f"--systems: unknown: {', '.join(unknown)}. The systems are: {known}.")
    free = [name for name in names if name in JOB_NAMES or "onnx" in name]
    if held_to is not None and free:
        raise BenchmarkError(
            f"--held_to {held_to}: {', '.join(free)} cannot be held: ONNX Runtime takes no notice, "
            "and jobs are measured as they are. Name others with --systems."
        )
    saturated = [name for name in names if is_ours(name) and "_int8" in name]
    if held_to is not None and saturated:
        raise BenchmarkError(
            f"--held_to {held_to}: {', '.join(saturated)} refuses processors without VNNI. "
            "Name ours_int7 instead."
        )
    if not all(is_ours(name) for name in names) and not peers_python.is_file():
        raise BenchmarkError(
            f"{peers_python} is not there. Peers have an environment of their own:\n"
            "  python3.11 -m venv benchmarks/.peers\n"
            "  benchmarks/.peers/bin/pip install -r benchmarks/requirements-peers.txt\n"
            "or name another one with --peers_python, or measure this project alone: --systems "
            + ",".join(name for name in [*LOOP_NAMES, *JOB_NAMES] if is_ours(name))
        )


def loop_system(
    name: str, model: Model, texts: Path, work: Path, peers_python: Path, label: str | None = None
) -> System:
    """Returns the system that runs ``texts`` (a JSON list) through a model in memory.

    Peers in int8 choose their scales on the texts of ``WORK/calibration.json``.
    """
    default_label, module, precision, more = _LOOPS[name]
    interpreter = sys.executable if is_ours(name) else str(peers_python)
    arguments = {"texts": texts, "model": model.folder, "work": work, "precision": precision}
    if is_ours(name):
        arguments["bundle"] = model.bundle
    flags = [part for key, value in arguments.items() for part in (f"--{key}", str(value))]
    command = (interpreter, "-m", f"benchmarks.systems.{module}", *flags, *more)
    return System(name, label or default_label, command)


def peak_system() -> System:
    """Returns the system that measures matrix products."""
    return System(PEAK, "matrix products alone", (sys.executable, "-m", "benchmarks.systems.matrix_peak"))


def find_job(name: str, model: Model, peers_python: Path, batch_size: int) -> Job:
    """Returns the job of a name.

    Args:
        name: one of ``JOB_NAMES``.
        model: the model it runs.
        peers_python: the interpreter of the peers.
        batch_size: the best one of sentence-transformers, used for MLTransform.
    """
    label = _JOB_LABELS[name]
    if is_ours(name):
        precision = name.removeprefix("job_")
        return Job(name, label, lambda lines, output: our_job(lines, output, model.bundle, precision))
    system = f"benchmarks.systems.{name.removesuffix('_by_length')}"
    which = {
        "beam_mltransform": ["--model", str(model.folder), "--batch_size", str(batch_size)],
        "beam_runinference": ["--bundle", str(model.bundle)],
        "beam_runinference_by_length": ["--bundle", str(model.bundle), "--by_length"],
    }[name]

    def command(lines: Path, output: Path) -> list[str]:
        files = ["--input", str(lines), "--output", str(output / "rows")]
        return [str(peers_python), "-m", system, *files, *which]

    return Job(name, label, command)


def our_job(lines: Path, output: Path, bundle: Path | str, precision: str) -> list[str]:
    """Returns the command line of this project's job, as a user would type it."""
    return [
        *(sys.executable, "-m", "beam_jobs.embed", "--keep_text"),
        *("--input", str(lines), "--output", str(output), "--bundle", str(bundle)),
        *("--precision", precision),
    ]
