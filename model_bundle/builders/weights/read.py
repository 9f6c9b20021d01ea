"""Finds the weights of a source folder, in whichever format they are stored."""

from __future__ import annotations

from pathlib import Path

from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.errors import SourceError

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
KERAS_H5 = "tf_model.h5"
KERAS_H5_INDEX = "tf_model.h5.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.bin.index.json")

CONVERT_PICKLES = """\
Pickled weights run code when they are read, so they are not read here. With PyTorch installed, convert them:
  from transformers import AutoModel, AutoTokenizer
  AutoModel.from_pretrained("OLD").save_pretrained("NEW")
  AutoTokenizer.from_pretrained("OLD").save_pretrained("NEW")
(for a sentence-transformers model: SentenceTransformer("OLD").save("NEW")), then build from NEW."""


def find_weights(folder: SourceFolder) -> StoredWeights:
    """Opens the weights of a folder, and records their files as read.

    Order of preference: safetensors, ``tf_model.h5``, a TensorFlow checkpoint; of the first two, one file
    before several.

    Raises:
        SourceError: there are no weights, only pickled ones, or they cannot be read.
    """
    stored = _open(folder)
    if stored is None:
        raise SourceError(_no_weights(folder.root))
    folder.mark(stored.files)
    return stored


def _open(folder: SourceFolder) -> StoredWeights | None:
    from model_bundle.builders.weights.checkpoint import find_checkpoint, open_checkpoint
    from model_bundle.builders.weights.h5 import open_h5
    from model_bundle.builders.weights.safetensors import open_safetensors
    from model_bundle.builders.weights.shards import open_shards

    if path := folder.find(SAFETENSORS):
        return open_safetensors(path)
    if path := folder.find(SAFETENSORS_INDEX):
        return open_shards(path, open_safetensors)
    if path := folder.find(KERAS_H5):
        return open_h5(path)
    if path := folder.find(KERAS_H5_INDEX):
        return open_shards(path, open_h5)
    prefix = find_checkpoint(folder.root)
    return open_checkpoint(prefix) if prefix else None


def _no_weights(root: Path) -> str:
    pickles = sorted({path.name for pattern in _PICKLES for path in root.glob(pattern)})
    if pickles:
        return f"{root} contains only {', '.join(pickles)}.\n{CONVERT_PICKLES}"
    return (
        f"{root} contains no weights. Looked for {SAFETENSORS}, {SAFETENSORS_INDEX}, {KERAS_H5}, "
        f"{KERAS_H5_INDEX} and bert_model.ckpt.index. A model that has only pytorch_model.bin must be "
        f"converted first.\n{CONVERT_PICKLES}"
    )
