"""Exports the model with pooling and normalisation as one ONNX graph, for engines that read ONNX."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

NAME = "model.onnx"


def export_once(model: Path, work: Path) -> Path:
    """Returns the ONNX file, exported by a separate process to keep PyTorch out of the measured one."""
    path = work / "onnx" / NAME
    if not path.is_file():
        command = [sys.executable, "-m", "benchmarks.systems.export_onnx", str(model), str(path)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return path


def _export(model: Path, path: Path) -> None:
    import torch

    ids = torch.arange(5, 56).reshape(3, 17)
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    # Under a temporary name, because an existing file is assumed to be complete.
    partial = path.parent.with_name("onnx.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.onnx.export(
            _pooled(model),
            (ids, torch.ones_like(ids)),
            str(partial / path.name),
            input_names=["ids", "mask"],
            output_names=["vectors"],
            dynamic_shapes={"ids": axes, "mask": axes},
            dynamo=True,
        )
    partial.replace(path.parent)


def _pooled(model: Path) -> Any:
    """Wraps the encoder with mean pooling and normalisation; engines fuse explicit attention best."""
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # no types where PyTorch is absent
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(str(model), attn_implementation="eager")

        def forward(self, ids: Any, mask: Any) -> Any:
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2, dim=1)

    return Pooled().eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    flags = parser.parse_args()
    _export(flags.model, flags.output)


if __name__ == "__main__":
    main()
