"""Resolves a source: a folder, or a model of the Hugging Face Hub, which is downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from model_bundle.builders.weights import read as weight_files
from model_bundle.errors import SourceError

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# In the top folder and one below: configuration, tokenizer, modules, licence. No pickles, no other formats.
_SMALL_FILES = (
    *("*.json", "*.txt", "*.model", "README.md", "LICEN[SC]E*", "COPYING"),
    # The layers that sentence-transformers puts after the encoder.
    *(f"*_{module}*/{weight_files.SAFETENSORS}" for module in ("Dense", "LayerNorm")),
)
_IGNORED = ("onnx/*", "openvino/*", "*/*/*")
# In order of preference; the encoder of a sentence-transformers model may be in a subfolder.
_WEIGHTS = (
    (weight_files.SAFETENSORS, "model-*.safetensors"),
    (weight_files.KERAS_H5, "tf_model-*.h5"),
    ("*.ckpt.index", "*.ckpt.data-*"),
)


@dataclass(frozen=True)
class FetchedSource:
    """A local folder, the location to record for it, and the commit that was downloaded."""

    path: Path
    location: str
    revision: str | None


def fetch_source(source: str, revision: str | None) -> FetchedSource:
    """Finds a folder, or downloads a model from the Hub into its cache.

    Args:
        source: a folder, or an identifier such as ``sentence-transformers/all-MiniLM-L6-v2``.
        revision: a branch, tag or commit of the Hub; None means the main branch.

    Raises:
        SourceError: there is no such folder or model, or the Hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if revision is not None:
            raise SourceError(f"--revision {revision}: {source} is a folder. Omit the option.")
        return FetchedSource(path, path.resolve().name, None)
    if path.exists():
        raise SourceError(f"{source} is a file; name the folder that contains the model.")
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise SourceError(
            f"{source} is neither a local folder nor a model of the Hugging Face Hub (owner/name)."
        )
    found = _download(source, revision)
    return FetchedSource(found, source, found.name)


def _download(hub_id: str, revision: str | None) -> Path:
    """Downloads the small files and the preferred kind of weights that the model has."""
    for patterns in _WEIGHTS:
        wanted = [*_SMALL_FILES, *patterns, *(f"0_*/{pattern}" for pattern in patterns)]
        folder = _snapshot(hub_id, revision, wanted)
        if any(list(folder.glob(pattern)) + list(folder.glob(f"0_*/{pattern}")) for pattern in patterns):
            return folder
    return folder


def _snapshot(hub_id: str, revision: str | None, wanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            hub_id, revision=revision, allow_patterns=wanted, ignore_patterns=list(_IGNORED)
        )
    # The errors of the library and of its HTTP client, which depends on its version, have no common base.
    except Exception as error:
        summary = str(error).strip().split("\n")[0]
        raise SourceError(
            f"{hub_id} is not a folder, and downloading it from the Hugging Face Hub failed: {summary}\n"
            "Check the name and --revision; for a private or gated model log in first (hf auth login). "
            f"Without network, download it elsewhere (hf download {hub_id} --local-dir DIR), copy DIR here "
            "and name it instead."
        ) from error
    return Path(found)
