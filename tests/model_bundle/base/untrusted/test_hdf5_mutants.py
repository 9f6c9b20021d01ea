"""Changed HDF5 files: each reader returns what is in the file, or raises an error of this package."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits
from model_bundle.errors import ModelCrashError
from tests.support.mutants.hdf5 import read_mutants

FAST = 100
# `.github/workflows/nightly.yml` asks for ten thousand.
NIGHTLY = int(os.environ.get("TESTS_MUTANTS", "1000"))


def check(numbers: range, folder: Path) -> None:
    """Reads mutants in the sandbox, where a library that crashes takes nothing with it.

    What they must not read lies where the sandbox lets them: the look at the file alone stops them.
    """
    own, secret = folder / "own", folder / "own" / "secret"
    own.mkdir()
    secret.write_bytes(b"SECRET--" * 10)
    crashed = []
    for _ in numbers:
        try:
            assert run_confined(Limits(own), read_mutants, list(numbers), str(own), str(secret)) == []
            break
        except ModelCrashError:
            crashed.append(numbers[int((own / "progress").read_text()) - 1])
    assert crashed == []
    assert secret.read_bytes() == b"SECRET--" * 10
    assert [path.name for path in folder.iterdir()] == ["own"]


def test_a_changed_file_is_read_or_refused(tmp_path: Path) -> None:
    check(range(FAST), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(9000)
def test_many_changed_files(tmp_path: Path) -> None:
    check(range(FAST, FAST + NIGHTLY), tmp_path)
