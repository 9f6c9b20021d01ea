"""The documents say what the code does: commands, flags, reasons, fields, links."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import model_bundle.errors
from beam_jobs.base import metrics
from beam_jobs.errors import UsageError
from beam_jobs.job.console import console
from beam_jobs.job.flags.beam import pipeline_options
from beam_jobs.job.flags.parsers import classify_parser, embed_parser
from beam_jobs.pipeline.rows.schema import (
    DEAD_LETTER_SCHEMA,
    WINDOW_COLUMNS,
    WORD_COLUMNS,
    row_schema,
    vector_array,
)
from beam_jobs.report.__main__ import report_parser
from beam_jobs.runs.__main__ import runs_parser
from beam_jobs.search.__main__ import search_parser
from beam_jobs.store.manifest import DeadFileEntry, RunCounts, RunFile, RunManifest
from beam_jobs.sync.__main__ import sync_parser
from beam_jobs.worker_pool import worker_pool_parser
from model_bundle.cli.main import BUILD_KINDS, COMMANDS, bundle_parser
from tests.support.cloud.launch import modules

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOC_PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
# These name flags of scripts of their own, too.
OTHER_PAGES = [
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "launch").rglob("*.md")),
    *(ROOT / "tests").glob("*.md"),
]
PAGES = [*DOC_PAGES, *OTHER_PAGES]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (DOCS / "quickstart.md").read_text(encoding="utf-8")
DEAD_LETTERS_PAGE = (DOCS / "reference" / "dead-letters.md").read_text(encoding="utf-8")
MONITORING_PAGE = (DOCS / "how-to" / "monitoring.md").read_text(encoding="utf-8")
PACKAGES = ("beam_jobs", "model_bundle")
JOBS = {"beam_jobs.embed": embed_parser, "beam_jobs.classify": classify_parser}
# The page with the table of a command's flags.
FLAG_PAGES = {
    "beam_jobs.embed": "reference/flags.md",
    "beam_jobs.classify": "how-to/classify.md",
    "beam_jobs.report": "reference/report.md",
    "beam_jobs.runs": "how-to/runs.md",
    "beam_jobs.search": "how-to/search.md",
    "beam_jobs.sync": "how-to/sync.md",
}
TOOLS = {
    "beam_jobs.report": report_parser,
    "beam_jobs.runs": runs_parser,
    "beam_jobs.search": search_parser,
    "beam_jobs.sync": sync_parser,
}
SCHEMA = row_schema(["embedding"], "float32", pa.schema([]), keep_text=True, metadata={})


def fenced(text: str, language: str) -> list[str]:
    """The blocks of code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each shell command in a page's blocks."""
    lines = "".join(fenced(text, "bash")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.split("&&")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def python_commands(text: str) -> list[tuple[str, list[str]]]:
    """Module and arguments of each ``python -m`` command of ours."""
    found = [words for words in commands(text) if words[:2] == ["python", "-m"]]
    return [(words[2], words[3:]) for words in found if words[2] not in ("pytest", "venv")]


def check(module: str, arguments: list[str]) -> None:
    """Parses a command as it would be parsed, down to Beam's own flags; of scripts, that they are there."""
    if module == "model_bundle":
        bundle_parser().parse_args(arguments)
    elif module in JOBS:
        flags, rest = JOBS[module]().parse_known_args(arguments)
        pipeline_options(flags.runner, rest, [])
    elif module in TOOLS:
        TOOLS[module]().parse_args([*takewhile(lambda word: word != "<", arguments)])
    else:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


ALL_COMMANDS = [
    pytest.param(module, arguments, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (module, arguments) in enumerate(python_commands(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("module", "arguments"), ALL_COMMANDS)
def test_commands_parse(module: str, arguments: list[str]) -> None:
    check(module, arguments)


def test_wrong_commands_would_be_noticed() -> None:
    with pytest.raises(UsageError, match="--inptu"):
        check("beam_jobs.embed", ["--inptu", "a.txt"])
    with pytest.raises(model_bundle.errors.UsageError, match="--outptu"):
        check("model_bundle", ["build", "bert", "source", "--output", "b", "--outptu", "c"])
    with pytest.raises(UsageError, match="--tpo"):
        check("beam_jobs.search", ["out", "--query", "x", "--tpo", "3"])


@pytest.mark.parametrize(("word", "ends_with"), [("beam_jobs.embed", "--output out"), ("pytest", "pytest")])
def test_the_gate_finds_each_command_of_the_readme(word: str, ends_with: str) -> None:
    gate = (ROOT / ".ci" / "run").read_text()
    assert f"$(readme_command {word})" in gate
    (line,) = [line for line in README.splitlines() if re.search(rf"^python3 -m venv .*{word}", line)]
    assert line.endswith(ends_with)
    assert [line + "\n"] == [block for block in fenced(README, "bash") if line in block]


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its kind."""
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, heading
    return rest.partition(f"\n{heading.split()[0]} ")[0]


def cells(text: str, column: int = 0) -> set[str]:
    """The words in code in one column of a text's tables."""
    rows = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("| ")]
    return {word for row in rows for word in re.findall(r"`([\w-]+)[^`]*`", row[column + 1])}


def our_flags() -> set[str]:
    """Every flag of the commands here."""
    parsers: list[argparse.ArgumentParser] = [
        parser() for parser in (*JOBS.values(), *TOOLS.values(), worker_pool_parser)
    ]
    for command in (*BUILD_KINDS, *COMMANDS):
        parsers.append(argparse.ArgumentParser())
        command.add_flags(parsers[-1])
    with modules("flags") as (launch,):
        parsers.append(argparse.ArgumentParser())
        launch.add_place(parsers[-1])
        launch.add_launch(parsers[-1])
    return {option for parser in parsers for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize("command", [*JOBS, *TOOLS])
def test_every_flag_is_documented(command: str) -> None:
    page = (DOCS / FLAG_PAGES[command]).read_text(encoding="utf-8")
    flags = {option for action in (JOBS | TOOLS)[command]()._actions for option in action.option_strings}
    assert cells(section(page, "## Flags")) == flags - {"-h", "--help", "--version"}


@pytest.mark.parametrize("page", DOC_PAGES, ids=lambda page: page.name)
def test_flags_named_in_text_exist(page: Path) -> None:
    named = set(re.findall(r"`(--\w+)[^`]*`", page.read_text(encoding="utf-8")))
    assert {flag for flag in named - our_flags() if not is_of_beam(flag)} == set()


def is_of_beam(flag: str) -> bool:
    """Whether Beam knows a flag; it may still want another value."""
    try:
        pipeline_options("DirectRunner", [f"{flag}=a value"], [])
    except UsageError as error:
        return "neither" not in str(error)
    return True


# Where the reason stands among the arguments of what makes dead letters and dead files.
REASON_AT = {
    "DamagedFileError": 0,
    "RecordError": 0,
    "_raise_if_final": 0,
    "dead": 1,
    "fail": 1,
    "TextFailure": 1,
    "dead_letter": 2,
    "DeadLetter": 3,
}


def reasons_in_code() -> set[str]:
    """Reasons of dead letters and dead files, as the source has them."""
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    found: list[ast.expr] = []
    for node in nodes:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += node.args[REASON_AT[name] :][:1] if name in REASON_AT else []
        elif isinstance(node, ast.FunctionDef) and node.name in ("rejection_reason", "_reason"):
            found += [
                child.value for child in ast.walk(node) if isinstance(child, ast.Return) and child.value
            ]
        elif isinstance(node, ast.Assign) and re.search(r"\bid='reason'", ast.dump(node.targets[0])):
            found.append(node.value)
    constants = {
        child.value for value in found for child in ast.walk(value) if isinstance(child, ast.Constant)
    }
    return {text for text in constants if isinstance(text, str) and re.fullmatch(r"[a-z][a-z0-9_]*", text)}


def test_every_reason_is_documented() -> None:
    letters, _, files = DEAD_LETTERS_PAGE.partition("\n## Dead files\n")
    assert reasons_in_code() == cells(letters, column=1) | cells(files)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("manifest.md", RunManifest.model_fields),
        ("manifest.md", RunCounts.model_fields),
        ("manifest.md", RunFile.model_fields),
        ("manifest.md", DeadFileEntry.model_fields),
        ("dead-letters.md", DEAD_LETTER_SCHEMA.names),
        ("run-files.md", [*SCHEMA.names, *WORD_COLUMNS, *WINDOW_COLUMNS]),
    ],
)
def test_every_field_is_documented(page: str, names: list[str]) -> None:
    text = (DOCS / "reference" / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_counter_is_documented_with_its_unit() -> None:
    table = section(MONITORING_PAGE, "## Metrics")
    assert cells(table) == set(metrics.ALL)
    units = {name.rpartition("_")[2] for name in metrics.ALL}
    assert units == {"bytes", "documents", "tokens", "windows", "milliseconds", "workers"}
    assert f"`{metrics.NAMESPACE}`" in table


def test_every_event_is_documented() -> None:
    events, _, fields = section(MONITORING_PAGE, "## JSON").partition("| field |")
    assert cells(events) == set(get_args(console.Event))
    assert {"time", "severity", "message", "run_id", "attempt", "worker", "event"} == cells(
        "| field |" + fields
    )


def anchors(path: Path) -> set[str]:
    """The fragments that a page's headings have."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    without_code = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", without_code):
        path, _, fragment = target.partition("#")
        found = page.parent / path if path else page
        assert "://" in target or found.exists(), target
        assert not fragment or fragment in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_text_exist(page: Path) -> None:
    folders = "beam_jobs|model_bundle|tests|launch|benchmarks|recipes|docs"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists() and "NAME" not in name] == []


def messages_in_code() -> str:
    """Every text of the packages, with … for what is filled in."""
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            texts.append("".join(map(str, parts)))
    return "\n".join(texts)


def test_messages_of_the_troubleshooting_page_are_in_the_code() -> None:
    page = (DOCS / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    ours, _, _ = page.partition("\n## Other software\n")
    messages = re.findall(r"^\| `(.+?)` \|", ours, re.MULTILINE)
    assert len(messages) > 50
    code = messages_in_code()
    assert [message for message in messages if message not in code] == []


def test_pages_named_in_code_exist() -> None:
    sources = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    named = {page for path in sources for page in re.findall(r"docs/[\w/-]+\.md", path.read_text("utf-8"))}
    assert [page for page in named if not (ROOT / page).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [
        page for page in DOCS.rglob("*.md") if page.parent.name != "decisions" and page.name != "README.md"
    ]
    assert [page.name for page in pages if f"({page.relative_to(DOCS)})" not in index] == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in folder.glob("*.md") if f"({page.name})" not in index] == ["README.md"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as the quickstart's command writes it: document 17 and two others."""
    folder = tmp_path / "vectors" / "news" / "embeddings"
    folder.mkdir(parents=True)
    vectors = vector_array(np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32), "float32")
    names = ["17", "far", "near"]
    columns = {"doc_id": names, "source": names, "text_sha256": names, "text": names, "embedding": vectors}
    columns |= {"num_tokens": [3, 3, 3], "was_truncated": [False] * 3, "num_unknown_tokens": [0] * 3}
    pq.write_table(
        pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA), folder / "a.parquet"
    )
    return tmp_path


def test_the_query_for_neighbours_finds_them(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = import_module("duckdb")
    monkeypatch.chdir(run)
    (query,) = fenced(QUICKSTART, "sql")
    found = duckdb.sql(query).fetchall()
    assert [(name, text) for name, _, text in found] == [("near", "near"), ("far", "far")]
    assert [cosine for _, cosine, _ in found] == pytest.approx([0.8, 0.0])


def test_the_search_in_python_finds_the_nearest(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stub:
        """Stands in for a model, which the test of the encoder has."""

        def __init__(self, bundle: str) -> None:
            assert bundle == "bundles/l12"

        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[0.6, 0.8]] * len(texts), np.float32)

    monkeypatch.chdir(run)
    monkeypatch.setattr("model_bundle.inference.encoder.Encoder", Stub)
    (block,) = fenced(QUICKSTART, "python")
    exec(compile(block, "quickstart.md", "exec"), {})
    shown = capsys.readouterr().out
    assert shown.index("near") < shown.index("far") < shown.index("17")


def test_no_page_holds_both_sides_of_a_merge() -> None:
    """Markdown takes conflict markers for text and shows them to readers."""
    marker = re.compile(r"^(<{7}|>{7}|={7}$)", re.MULTILINE)
    assert not [
        str(page.relative_to(ROOT)) for page in PAGES if marker.search(page.read_text(encoding="utf-8"))
    ]


def test_the_page_of_models_is_what_its_tool_writes() -> None:
    from tools import models_page

    assert models_page.PAGE.read_text(encoding="utf-8") == models_page.page()
    kinds = {kind for family in models_page.FAMILIES for kind in family.model_types}
    assert not kinds & models_page.LACKING.keys(), "a family that is built lacks nothing"
    assert {near for near, _ in models_page.LACKING.values()} <= kinds
    assert models_page.TESTED.keys() == kinds
    for tested in models_page.TESTED.values():
        assert all(list((ROOT / "tests" / "data").glob(pattern)) for pattern in tested.recorded)
