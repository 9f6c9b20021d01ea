"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

DATA_DIR = Path(__file__).parent / "data"


def shared_path(relative: str) -> Path:
    """Finds reference data that lies beside a checkout, or skips the test, saying so."""
    root = Path(os.environ.get("SHARED_DIR", Path(__file__).parents[2] / "shared"))
    path = root / relative
    if not path.exists():
        pytest.skip(f"reference data {relative} is not on this machine (SHARED_DIR)")
    return path
