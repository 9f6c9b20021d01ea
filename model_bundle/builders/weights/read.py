"""Stored weights, whichever file format holds them."""

from __future__ import annotations

from pathlib import Path

from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.errors import SourceError

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
KERAS_H5 = "tf_model.h5"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.bin.index.json")

CONVERT_PICKLES = """\
Pickled weights run code when they are read, so they are not read here. Where PyTorch is, convert them:
  from transformers import AutoModel, AutoTokenizer
  AutoModel.from_pretrained("OLD").save_pretrained("NEW")
  AutoTokenizer.from_pretrained("OLD").save_pretrained("NEW")
(a sentence-transformers model: SentenceTransformer("OLD").save("NEW")), then build from NEW."""


def find_weights(folder: SourceFolder) -> StoredWeights:
    """Opens the weights of a folder, and counts their files as read.

    safetensors come first, then ``tf_model.h5``, then a TensorFlow checkpoint.

    Raises:
        SourceError: there are none, only pickled ones, or they cannot be read.
    """
    stored = _open(folder)
    if stored is None:
        raise SourceError(_no_weights(folder.root))
    folder.mark(stored.files)
    return stored


def _open(folder: SourceFolder) -> StoredWeights | None:
    from model_bundle.builders.weights.checkpoint import find_checkpoint, open_checkpoint
    from model_bundle.builders.weights.h5 import open_h5
    from model_bundle.builders.weights.safetensors import open_safetensors, open_shards

    if path := folder.find(SAFETENSORS):
        return open_safetensors(path)
    if path := folder.find(SAFETENSORS_INDEX):
        return open_shards(path)
    if path := folder.find(KERAS_H5):
        return open_h5(path)
    prefix = find_checkpoint(folder.root)
    return open_checkpoint(prefix) if prefix else None


def _no_weights(root: Path) -> str:
    pickles = sorted({path.name for pattern in _PICKLES for path in root.glob(pattern)})
    if pickles:
        return f"{root} holds {', '.join(pickles)} only.\n{CONVERT_PICKLES}"
    return (
        f"{root} holds no weights. Looked for {SAFETENSORS}, {SAFETENSORS_INDEX}, {KERAS_H5} and "
        "bert_model.ckpt.index. A model that offers pytorch_model.bin only needs one step first.\n"
        f"{CONVERT_PICKLES}"
    )
