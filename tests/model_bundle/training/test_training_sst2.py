"""The worked example of the page on training, command by command as it stands there."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import shared_path
from tests.repository.test_readme import commands
from tests.support.runs.jobs import PROJECT

PAGE = PROJECT / "docs" / "how-to" / "training.md"
SECTION = "SST-2 from text to Parquet"


def example() -> str:
    """The section with the example."""
    return PAGE.read_text(encoding="utf-8").partition(f"## {SECTION}\n")[2].partition("\n## ")[0]


@pytest.mark.slow
@pytest.mark.needs_shared
def test_the_example(minilm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del minilm_bundle  # it is fetched and built before
    for name in ("sst2_train.tsv.gz", "sst2_dev.tsv.gz"):
        (tmp_path / name).symlink_to(shared_path(f"data/{name}"))
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    found = commands(example())
    assert [words[2] for words in found] == ["model_bundle", "model_bundle", "beam_jobs.classify"]
    for words in found:
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    scope: dict[str, int] = {}
    exec(example().partition("```python\n")[2].partition("```")[0], scope)
    assert scope["rows"] == 872
    assert scope["right"] / scope["rows"] >= 0.80
    check_labels(tmp_path)


def check_labels(folder: Path) -> None:
    """Every row has the label in the job's output that Keras gave it."""
    table = pa.concat_tables(
        pq.read_table(path) for path in sorted((folder / "labelled" / "dev" / "classes").glob("*.parquet"))
    )
    # An id ends in the number of the record, from 1.
    numbers = [int(key.rpartition("#")[2]) for key in table.column("doc_id").to_pylist()]
    first = min(numbers)
    labels = dict(zip((n - first + 1 for n in numbers), table.column("label").to_pylist(), strict=True))
    with (folder / "bundles" / "sst2" / "training" / "predictions.csv").open(newline="") as file:
        expected = {int(row["row"]): row["predicted"] for row in csv.DictReader(file)}
    assert len(expected) == 872
    assert labels == expected
