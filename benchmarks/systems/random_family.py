"""Saves an encoder of BERT-base's shape with random weights, as a folder of sentence-transformers."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

# Source: the config.json of bert-base-uncased, all-mpnet-base-v2, electra-base-discriminator, albert-base-v2.
_SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
_OWN: dict[str, dict[str, Any]] = {
    "bert": {},
    "mpnet": {"vocab_size": 30527, "max_position_embeddings": 514},
    "electra": {"embedding_size": 768},
    "albert": {"embedding_size": 128, "hidden_act": "gelu"},
    # Of ModernBERT-base and deberta-v3-base, but with the layers and the tokenizer of the others.
    "modernbert": {"intermediate_size": 1152, "max_position_embeddings": 8192, "pad_token_id": 0},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
}

_PACKAGE = "sentence_transformers.models"


def main() -> None:
    """Takes a family, a folder with a tokenizer of BERT, and the folder to write."""
    import torch
    from transformers import AutoConfig, AutoModel

    family, tokenizer, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.manual_seed(1)
    config: Any = AutoConfig.for_model(family, **_SIZES | _OWN[family])
    make: Any = AutoModel.from_config
    model = make(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Not ones: TensorFlow removes products with ones, and with them the kernel of trained models.
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.normal_(1.0, 0.02)
    model.save_pretrained(target)
    for path in tokenizer.iterdir():
        if path.is_file() and path.name not in ("config.json", "model.safetensors", "pytorch_model.bin"):
            shutil.copy(path, target / path.name)
    # The vocabulary is BERT's for all.
    modules = ["Transformer", "Pooling", "Normalize"]
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{_PACKAGE}.{kind}"}
        for i, kind in enumerate(modules)
    ]
    (target / "modules.json").write_text(json.dumps(listed))
    for folder in ("1_Pooling", "2_Normalize"):
        (target / folder).mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True}
    (target / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


if __name__ == "__main__":
    main()
