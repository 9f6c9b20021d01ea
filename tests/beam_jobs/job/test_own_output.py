"""A run's own output is not read as input by the next run, unless somebody asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_jobs.errors import NoInputError, UsageError
from beam_jobs.job.own_output import refuse_own_output
from beam_jobs.pipeline.read.files.patterns import match_patterns
from tests.support.runs.jobs import run_job, write_texts


def test_a_pattern_that_reaches_into_the_output_is_rejected(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    write_texts(folder / "in.jsonl", ["the cat", "the dog"])
    out, flags = folder / "out", ["--text_column", "text", "--keep_text", "--input", folder / "*.jsonl"]
    first = run_job(out, tiny_bundle, *flags)
    assert first.exit_code == 0, first.stderr
    again = run_job(out, tiny_bundle, *flags, folder / "**.parquet", run_id="again")
    assert again.exit_code == 2
    assert "which an earlier run wrote below --output" in again.stderr
    # Although the columns of that output would be an error, too.
    alone = run_job(out, tiny_bundle, "--input", folder / "**.parquet", "--id_column", "x", run_id="again")
    assert "which an earlier run wrote below --output" in alone.stderr
    assert not (out / "again").exists()


@pytest.mark.parametrize(
    ("pattern", "is_fine"),
    [
        *[("d/**.parquet", False), ("d/out/**.parquet", False), ("d/out/*/*/*.parquet", False)],
        *[("d/out/run/**.parquet", True), ("d/out/run/dead_letters/*.parquet", True)],
        *[
            ("d/out/run/dead_letters/a.parquet", True),
            ("d/out/raw/*.parquet", True),
            ("link/out/**.parquet", False),
        ],
    ],
)
def test_only_a_pattern_that_names_the_run_reads_it(pattern: str, is_fine: bool, tmp_path: Path) -> None:
    for name in ("run/dead_letters/a.parquet", "raw/b.parquet"):
        path = tmp_path / "d" / "out" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "out").symlink_to(tmp_path / "d" / "out")
    check = refuse_own_output(str(tmp_path / "d" / "out"))
    if is_fine:
        assert match_patterns([str(tmp_path / pattern)], None, check)
    else:
        with pytest.raises(UsageError, match="name its folder in the pattern"):
            match_patterns([str(tmp_path / pattern)], None, check)


@pytest.mark.parametrize("pattern", ["d/", "d/**.json", "d/**/manifest.json", "d/out/*.json"])
@pytest.mark.parametrize(
    "name", ["latest.json", "run/manifest.json", "run/manifest.failed.json", "run/report.html"]
)
def test_no_entry_of_a_run_is_a_document(pattern: str, name: str, tmp_path: Path) -> None:
    """Neither by its content, nor by an error about a format that the file was never meant to have."""
    path = tmp_path / "d" / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    check = refuse_own_output(str(tmp_path / "d" / "out"))
    with pytest.raises((UsageError, NoInputError), match=r"an earlier run wrote|No file matches"):
        match_patterns([str(tmp_path / pattern)], None, check)
