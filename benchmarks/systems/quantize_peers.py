"""Quantizes the model for peers as their documentation says; each in a process of its own, and once.

Scales come from the texts of ``WORK/calibration.json``. Dynamic quantization, ONNX Runtime's, needs none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.systems.export_onnx import export_once
from benchmarks.systems.sorted_texts import SortedTexts

CALIBRATION_NAME = "calibration.json"
# The default number of samples of optimum's quantizer for OpenVINO is the same.
_CALIBRATION_TEXTS = 300
_SENTENCES_FILES = {
    "onnx": "model_qint8_avx512_vnni.onnx",
    "openvino": "openvino_model_qint8_quantized.xml",
}


def quantize_openvino(model: Path, work: Path) -> Path:
    """Returns the OpenVINO model, quantized by NNCF from the ONNX file."""
    return _once("nncf", model, work, work / "openvino_int8" / "model.xml")


def quantize_sentences(backend: str, model: Path, work: Path) -> tuple[Path, str]:
    """Returns the folder that sentence-transformers quantized for a backend, and the file to load there."""
    folder, name = work / f"sentences_{backend}", _SENTENCES_FILES[backend]
    _once(backend, model, work, folder / backend / name)
    return folder, name


def _once(kind: str, model: Path, work: Path, path: Path) -> Path:
    if not path.is_file():
        command = [sys.executable, "-m", "benchmarks.systems.quantize_peers", kind, str(model), str(work)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return path


def _texts(work: Path) -> list[str]:
    found: list[str] = json.loads((work / CALIBRATION_NAME).read_text(encoding="utf-8"))
    return found[:_CALIBRATION_TEXTS]


def _nncf(model: Path, work: Path) -> None:
    import nncf
    import openvino

    batches = SortedTexts(model, _texts(work)).batches(1)
    data = nncf.Dataset([{"ids": batch.ids, "mask": batch.mask} for batch in batches])
    graph = openvino.Core().read_model(str(export_once(model, work)))
    quantized = nncf.quantize(
        graph, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=_CALIBRATION_TEXTS
    )
    openvino.save_model(quantized, str(work / "openvino_int8" / "model.xml"))


def _sentences(backend: str, model: Path, work: Path) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        export_dynamic_quantized_onnx_model,
        export_static_quantized_openvino_model,
    )

    folder = work / f"sentences_{backend}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    loaded: Any = SentenceTransformer(str(folder), backend=backend, device="cpu")
    loaded.save_pretrained(str(folder))
    if backend == "onnx":
        export_dynamic_quantized_onnx_model(loaded, "avx512_vnni", str(folder))
        return
    data = work / "calibration"
    data.mkdir(exist_ok=True)
    rows = "".join(json.dumps({"text": text}) + "\n" for text in _texts(work))
    (data / "train.jsonl").write_text(rows, encoding="utf-8")
    export_static_quantized_openvino_model(
        loaded,
        None,
        str(folder),
        dataset_name=str(data),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["nncf", *_SENTENCES_FILES])
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    flags = parser.parse_args()
    os.chdir(flags.work)  # exporters leave files where they are started
    if flags.kind == "nncf":
        _nncf(flags.model, flags.work)
    else:
        _sentences(flags.kind, flags.model, flags.work)


if __name__ == "__main__":
    main()
