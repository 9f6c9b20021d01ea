"""Every command from outside: help, examples, version, a reader that goes away, IPython."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

import beam_jobs
import model_bundle
from beam_jobs.__main__ import main as list_commands
from beam_jobs.job.flags.parsers import classify_parser, embed_parser
from beam_jobs.report.__main__ import report_parser
from beam_jobs.runs.__main__ import runs_parser
from beam_jobs.search.__main__ import search_parser
from beam_jobs.sync.__main__ import sync_parser
from beam_jobs.worker_pool import worker_pool_parser
from model_bundle.base.command import Parser
from model_bundle.cli.main import COMMANDS, bundle_parser
from tests.support.cloud.fake_google import Fault, serving
from tests.support.runs.jobs import PROJECT, capture, run_job, write_texts
from tests.support.runs.made_runs import make_run

MODULES = {
    "beam_jobs.embed": embed_parser,
    "beam_jobs.classify": classify_parser,
    "beam_jobs.search": search_parser,
    "beam_jobs.runs": runs_parser,
    "beam_jobs.sync": sync_parser,
    "beam_jobs.report": report_parser,
    "beam_jobs.worker_pool": worker_pool_parser,
}
# Those that need no model and no cloud of their user, and take seconds.
RUNNABLE = [
    "python -m beam_jobs.embed --output out",
    *(e for e in embed_parser().examples if "--input" in e),
    *search_parser().examples,
    *runs_parser().examples,
    *report_parser().examples,
    *(
        f"python -m model_bundle {command.name} {e}"
        for command in COMMANDS
        for e in command.examples
        if "bert-mini" in e
        and "--expected" not in e
        and "--fine_tune" not in e
        and command.name != "quantize"
    ),
]


def parsers() -> Iterator[Parser]:
    """Every parser that prints a help, those of commands below another one included."""
    waiting: list[argparse.ArgumentParser] = [bundle_parser(), *(make() for make in MODULES.values())]
    while waiting:
        parser = waiting.pop()
        assert isinstance(parser, Parser)
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()


def main_of(module: str) -> Callable[[list[str]], int]:
    """The function that ``python -m`` of a module calls."""
    path = PROJECT / module.replace(".", "/")
    found: Callable[[list[str]], int] = import_module(f"{module}.__main__" if path.is_dir() else module).main
    return found


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("parser", [*parsers()], ids=lambda parser: str(parser.prog))
def test_help_fits_the_terminal(parser: Parser, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = parser.format_help().splitlines()
    assert [line for line in lines if len(line) > columns] == []


@pytest.mark.parametrize("parser", [*parsers()], ids=lambda parser: str(parser.prog))
def test_help_ends_with_examples_of_the_command(parser: Parser) -> None:
    text = parser.format_help()
    assert 1 <= len(parser.examples) <= 4
    shown = text.rpartition("\nexamples:\n")[2].replace("\\\n", " ")
    assert [shlex.split(line) for line in shown.splitlines()] == [shlex.split(e) for e in parser.examples]
    for example in parser.examples:
        assert example.startswith(parser.prog)
        check(shlex.split(example.partition(" < ")[0]))


def check(words: list[str]) -> None:
    """Parses an example as the command would."""
    assert words[:2] == ["python", "-m"]
    parser = bundle_parser() if words[2] == "model_bundle" else MODULES[words[2]]()
    parser.parse_args(words[3:])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples read."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "news").mkdir()
    (folder / "news" / "a.csv").write_text("id,title,body\n1,Cats,A cat sat.\n2,Dogs,A dog ran.\n")
    (folder / "queries.txt").write_text("a small animal\n")
    moods = ["happy and glad", "sad and blue"]
    rows = [f"{moods[at % 2]} {at},{('good', 'bad')[at % 2]}\n" for at in range(40)]
    (folder / "mood.csv").write_text("text,mood\n" + "".join(rows))
    with capture():
        assert main_of("beam_jobs.embed")(["--output", str(folder / "out"), "--limit", "20"]) == 0
    return folder


# What test_verify_says_what_it_checked runs, on another bundle.
SLOW_EXAMPLES = ("python -m model_bundle verify bert-mini",)


@pytest.mark.parametrize(
    "example",
    [pytest.param(e, marks=pytest.mark.slow) if e in SLOW_EXAMPLES else e for e in RUNNABLE],
)
def test_examples_run(example: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    command, _, source = example.partition(" < ")
    words = shlex.split(command)
    if source:
        monkeypatch.setattr(sys, "stdin", io.StringIO((desk / source).read_text()))
    with capture() as (stdout, stderr):
        code = main_of("model_bundle.cli.main" if words[2] == "model_bundle" else words[2])(words[3:])
    assert code == 0, stderr.getvalue()
    assert stdout.getvalue()


@pytest.mark.parametrize("module", [*MODULES, "beam_jobs", "model_bundle.cli.main"])
def test_version_is_one_for_both_packages(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of(module)(["--version"]) == 0
    assert capsys.readouterr().out == f"beam-embedding-jobs {model_bundle.__version__}\n"
    assert beam_jobs.__version__ == model_bundle.__version__


def test_the_list_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_commands([]) == 0
    shown = capsys.readouterr().out
    assert [module for module in [*MODULES, "model_bundle"] if f"python -m {module} " not in shown] == []


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of runs."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, "first", [{"ids": ["a"], "vectors": [[1.0, 0.0]]}])
    return folder


def run_module(arguments: list[str], stdout: int, **environment: str) -> tuple[int, str]:
    """Runs a command with a given standard output; returns its exit code and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=PROJECT,
        env=os.environ | environment,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["beam_jobs.runs", "ROOT", "list", "--format", "json"],
        ["beam_jobs.embed", "--help"],
        ["model_bundle", "inspect", "bert-mini"],
        ["model_bundle", "--help"],
        ["beam_jobs"],
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_a_good_end(arguments: list[str], root: Path) -> None:
    words = [str(root) if word == "ROOT" else word for word in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run_module(words, writer) == (0, "")
    finally:
        os.close(writer)


@pytest.mark.slow
def test_a_search_ends_when_its_reader_does(desk: Path) -> None:
    """As with ``| head -1``: the first line is read, then nobody reads any more."""
    command = [sys.executable, "-m", "beam_jobs.search", str(desk / "out"), "--top", "1"]
    command += [word for query in ("cat", "dog") for word in ("--query", query)]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        assert job.stdout.readline() == "cat\n"
        job.stdout.close()
        errors = job.stderr.read()
    assert (job.wait(60), errors) == (0, "")


@pytest.mark.parametrize(
    "arguments", [["beam_jobs.runs", "ROOT", "list"], ["model_bundle", "inspect", "bert-mini"]], ids=" ".join
)
def test_an_output_that_is_full_is_one_message(arguments: list[str], root: Path) -> None:
    with Path("/dev/full").open("w") as full:
        code, errors = run_module(
            [str(root) if word == "ROOT" else word for word in arguments], full.fileno()
        )
    assert code == 1
    assert errors == (
        "error: No space left on device. Free some, or write elsewhere; then start the command again.\n"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_job_on_a_full_disk_is_one_message(small_disk: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", [f"the cat {at}" for at in range(2_000)])
    job = run_job(small_disk / "out", tiny_bundle, "--input", source)
    assert job.exit_code == 1
    assert "Traceback" not in job.stderr
    message = job.stderr[job.stderr.index("error: ") :]
    assert "wrote no run: No space left on device" in message
    assert "--run_id run" in message
    assert not (small_disk / "out" / "run" / "manifest.json").exists()


def test_a_report_to_a_folder_that_is_not_ours_is_one_message(root: Path, denied: Path) -> None:
    with capture() as (_, stderr):
        assert main_of("beam_jobs.report")([str(root), "--output", str(denied / "r.html")]) == 1
    assert stderr.getvalue().startswith(f"error: No permission for {denied / 'r.html'}: ")


@pytest.mark.parametrize("code", [401, 403])
def test_a_bucket_that_is_not_ours_is_one_message(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = import_module("apache_beam.internal.gcp.auth")
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    with serving() as server, capture() as (_, stderr):
        server.faults.append(Fault(".", code, times=1_000))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        assert main_of("beam_jobs.runs")(["gs://data/out", "list"]) == 1
    (line,) = [line for line in stderr.getvalue().splitlines() if line.startswith("error: ")]
    assert line.startswith("error: Google Cloud denied access: ")
    assert "gcloud auth application-default login" in line


NOTEBOOK = """
import sys
if {blocked}:
    class Blocked:
        def find_spec(self, name, *_):
            if name == "pandas":
                raise ModuleNotFoundError(name, name=name)
    sys.meta_path.insert(0, Blocked())
from beam_jobs.embed import main
code = main({arguments})
assert "apache_beam.runners.interactive.interactive_environment" not in sys.modules
print("exit code", code)
"""


@pytest.mark.parametrize("pandas", ["with pandas", pytest.param("without pandas", marks=pytest.mark.slow)])
def test_a_job_runs_in_a_notebook(pandas: str, tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", "a dog"])
    arguments = ["--input", str(source), "--bundle", str(tiny_bundle), "--output", str(tmp_path / "out")]
    cell = tmp_path / "cell.ipy"
    cell.write_text(NOTEBOOK.format(blocked=pandas == "without pandas", arguments=arguments))
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(cell)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Run finished: ")
    assert lines[-1] == "exit code 0"
    assert all(line.startswith("  ") for line in lines[1:-1])
    assert len(done.stderr.splitlines()) == 1  # the plan; no log, no warning
