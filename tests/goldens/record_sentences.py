"""Records what sentence-transformers makes of tiny models with each module, for tests that need no PyTorch.

Run it where sentence-transformers is installed; it reads the encoders in ``tests/data/tiny_*``, and writes
``tests/data/sentences``::

    USE_TF=0 python tests/goldens/record_sentences.py tests/data

``cases.json``: for each case its ``encoder``, and ``files``: every JSON file beside the encoder's own, as the
library wrote it, or as older releases did. ``arrays.npz``: by ``CASE/FILE/NAME`` the weights of modules, and
by ``CASE/PROMPT`` float32[texts, dim] that ``encode`` gave with the prompt of that name (``none``: as called
without one); ``truncated/unit``: with ``normalize_embeddings``; ``similarity/NAME``: float32[queries, texts].
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from record_torch import TEXTS
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize, Pooling

DIM = 32
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "ELU", "LeakyReLU", "Softplus", "Mish")
PROMPTS = {"query": "the cat: ", "document": "a mat, ", "other": "one"}
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


class Recorder:
    """Collects cases; ``root`` has the encoders, which are copied to ``work``."""

    def __init__(self, root: Path, work: Path) -> None:
        self._root = root
        self._work = work
        self.cases: dict[str, Any] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def encoder(self, name: str, **tokenizer: Any) -> Path:
        """Copies an encoder, with the name of its tokenizer's class in transformers 4."""
        place = self._work / f"{name}{len(list(self._work.iterdir()))}"
        left_out = shutil.ignore_patterns("expected.npz", "vocab.txt")
        shutil.copytree(self._root / name, place, ignore=left_out)
        config = json.loads((place / "tokenizer_config.json").read_text())
        config |= {"tokenizer_class": "PreTrainedTokenizerFast"} | tokenizer
        config["model_input_names"] = ["input_ids", "attention_mask"]
        (place / "tokenizer_config.json").write_text(json.dumps(config))
        return place

    def add(
        self,
        name: str,
        modules: list[Any],
        encoder: str = "tiny_bert",
        tokenizer: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Saves a model with these modules after the encoder, and records what it gives."""
        with TemporaryDirectory() as folder:
            base = Transformer(str(self.encoder(encoder, **(tokenizer or {}))))
            model = SentenceTransformer(modules=[base, *modules], device="cpu", **options)
            for parameter in (p for module in modules for p in module.parameters()):
                parameter.data.normal_(0.0, 0.5)
            model.save(folder, create_model_card=False)
            self.record(name, Path(folder), encoder)

    def add_old(self, name: str, encoder: str, kinds: list[str], files: dict[str, Any], dense: Any) -> None:
        """Does the same for a folder as releases before 5.5 wrote it."""
        with TemporaryDirectory() as folder:
            place = Path(folder)
            shutil.copytree(self.encoder(encoder), place, dirs_exist_ok=True)
            paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index)]
            modules = [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
            ]
            for file, content in {"modules.json": modules, **files}.items():
                (place / file).parent.mkdir(exist_ok=True)
                (place / file).write_text(json.dumps(content))
            if dense is not None:
                (place / "2_Dense").mkdir()
                dense.save(str(place / "2_Dense"))
                # As the releases of that time, which did not know the last two.
                config = json.loads((place / "2_Dense/config.json").read_text())
                config = {k: v for k, v in config.items() if not k.startswith("module_")}
                (place / "2_Dense/config.json").write_text(json.dumps(config))
            self.record(name, place, encoder)

    def record(self, name: str, folder: Path, encoder: str) -> None:
        """Records a saved model as it is loaded again."""
        own = {path.name for path in (self._root / encoder).iterdir()} | {"special_tokens_map.json"}
        files = {
            path.relative_to(folder).as_posix(): json.loads(path.read_text())
            for path in sorted(folder.rglob("*.json"))
            if path.name not in own or path.parent != folder
        }
        self.cases[name] = {"encoder": encoder, "files": files}
        for path in folder.glob("*/model.safetensors"):
            for weight, value in load_file(path).items():
                self.arrays[f"{name}/{path.relative_to(folder).as_posix()}/{weight}"] = value.numpy()
        model = SentenceTransformer(str(folder), device="cpu")
        self.arrays[f"{name}/none"] = model.encode(list(TEXTS))
        for prompt in PROMPTS if any(model.prompts.values()) else ():
            self.arrays[f"{name}/{prompt}"] = model.encode(list(TEXTS), prompt_name=prompt)
        if name == "truncated":
            self.arrays[f"{name}/unit"] = model.encode(list(TEXTS), normalize_embeddings=True)
        if name == "prompts":
            assert np.array_equal(model.encode_query(list(TEXTS)), self.arrays["prompts/query"])
            assert np.array_equal(model.encode_document(list(TEXTS)), self.arrays["prompts/document"])


def dense(inputs: int, outputs: int, activation: str, *, bias: bool = True) -> Any:
    """A dense layer; its weights are made later."""
    function = getattr(torch.nn, activation)()
    return Dense(inputs, outputs, bias=bias, activation_function=function)


def main(root: Path) -> None:
    """Writes the recordings."""
    with TemporaryDirectory() as work:
        record_all(root, Path(work))


def record_all(root: Path, work: Path) -> None:
    """Does so, with copies of encoders in ``work``."""
    torch.manual_seed(20261130)
    made = Recorder(root, work)
    for mode in MODES:
        made.add(f"pooling_{mode}", [Pooling(DIM, mode)])
    made.add("joined", [Pooling(DIM, MODES[::-1]), Normalize()])
    for activation in ACTIVATIONS:
        layer = dense(DIM, 8, activation, bias=activation != "Identity")
        made.add(f"dense_{activation}", [Pooling(DIM, "mean"), layer])
    norm = [Pooling(DIM, ("mean", "max")), LayerNorm(2 * DIM), Dropout(0.5), dense(2 * DIM, 12, "Tanh")]
    made.add("layer_norm", [*norm, Normalize()], encoder="tiny_distilbert")
    made.add("truncated", [Pooling(DIM, "mean"), Normalize()], truncate_dim=10, similarity_fn_name="dot")
    made.add("prompts", [Pooling(DIM, "mean")], prompts=PROMPTS, similarity_fn_name="euclidean")
    made.add("default_prompt", [Pooling(DIM, "cls")], prompts=PROMPTS, default_prompt_name="other")
    made.add("without_prompt", [Pooling(DIM, MODES, include_prompt=False)], prompts=PROMPTS)
    made.add(
        "without_prompt_bytes",
        [Pooling(DIM, MODES, include_prompt=False), Normalize()],
        encoder="tiny_roberta",
        prompts=PROMPTS,
    )
    left = [Pooling(DIM, "lasttoken"), Normalize()]
    tokenizer = {"padding_side": "left"}
    made.add("left_padded", left, encoder="tiny_roberta", tokenizer=tokenizer, prompts=PROMPTS)
    limits = {"max_seq_length": 12, "do_lower_case": False}
    pooling = {"word_embedding_dimension": DIM, "pooling_mode_cls_token": True}
    layer = dense(DIM, DIM, "Tanh")
    for parameter in layer.parameters():
        parameter.data.normal_(0.0, 0.5)
    files = {"sentence_bert_config.json": limits, "1_Pooling/config.json": pooling}
    # LaBSE, and distiluse.
    made.add_old("old_cls_dense", "tiny_bert", ["Transformer", "Pooling", "Dense", "Normalize"], files, layer)
    switches = {
        "word_embedding_dimension": DIM,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": True,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    files = {"sentence_bert_config.json": limits, "1_Pooling/config.json": switches}
    made.add_old("old_switches", "tiny_distilbert", ["Transformer", "Pooling"], files, None)
    given = made.arrays["layer_norm/none"]
    for name in SIMILARITIES:
        base = Transformer(str(made.encoder("tiny_bert")))
        model = SentenceTransformer(modules=[base], similarity_fn_name=name)
        made.arrays[f"similarity/{name}"] = model.similarity(given[:2], given).numpy()
    target = root / "sentences"
    target.mkdir(exist_ok=True)
    (target / "cases.json").write_text(json.dumps(made.cases, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(target / "arrays.npz", **dict(sorted(made.arrays.items())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
