"""Folders of sentence-transformers as recorded by ``tests/goldens/record_sentences.py``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.conftest import DATA_DIR
from tests.support.models.bert_formats import copy_source

_DATA = DATA_DIR / "sentences"


@cache
def cases() -> dict[str, Any]:
    """The recorded cases by name."""
    found: dict[str, Any] = json.loads((_DATA / "cases.json").read_text())
    return found


@cache
def recorded() -> dict[str, np.ndarray]:
    """The recorded arrays: weights of modules, and vectors."""
    with np.load(_DATA / "arrays.npz") as stored:
        return {name: stored[name] for name in stored.files}


def texts_of(encoder: str) -> list[str]:
    """The texts that vectors were recorded for."""
    with np.load(DATA_DIR / encoder / "expected.npz") as stored:
        return list(json.loads(stored["texts"].tobytes()))


def write_case(name: str, target: Path) -> Path:
    """Writes a case as the folder that it was."""
    case = cases()[name]
    copy_source(target, DATA_DIR / case["encoder"])
    for file, content in case["files"].items():
        (target / file).parent.mkdir(exist_ok=True)
        (target / file).write_text(json.dumps(content))
    weights: dict[str, dict[str, np.ndarray]] = {}
    for key, array in recorded().items():
        owner, _, rest = key.partition("/")
        if owner == name and ".safetensors/" in rest:
            file, _, weight = rest.rpartition("/")
            weights.setdefault(file, {})[weight] = np.ascontiguousarray(array)
    for file, arrays in weights.items():
        save_file(arrays, target / file)
    return target
