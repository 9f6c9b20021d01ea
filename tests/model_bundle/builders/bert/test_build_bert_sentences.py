"""What sentence-transformers folders say, and what a bundle makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import SourceError
from tests.support.models.bert_formats import copy_source, edit_json

OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def sentence_folder(
    root: Path,
    kinds: tuple[str, ...] = ("Transformer", "Pooling", "Normalize"),
    *,
    encoder: str = "",
    pooling: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    prompts: dict[str, Any] | None = None,
) -> Path:
    """The tiny BERT as sentence-transformers would save it; modules are given by their class."""
    folder = copy_source(root / encoder) if encoder else copy_source(root)
    paths = {"Transformer": encoder, "Pooling": "1_Pooling"}
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": paths.get(kind.rsplit(".", 1)[-1], f"{index}_{kind}"),
            "type": kind if "." in kind else f"{OLD}{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    (root / "modules.json").write_text(json.dumps(modules))
    edit_json(root / "config_sentence_transformers.json", **(prompts or {}))
    edit_json(
        folder / "sentence_bert_config.json", **(limits or {"max_seq_length": 32, "do_lower_case": False})
    )
    (root / "1_Pooling").mkdir()
    settings = {"pooling_mode_mean_tokens": True} if pooling is None else pooling
    edit_json(root / "1_Pooling" / "config.json", word_embedding_dimension=32, **settings)
    return root


def test_modules_give_pooling_limit_and_normalisation(tmp_path: Path) -> None:
    source = read_bert_source(str(sentence_folder(tmp_path / "s")), BertOptions()).source
    assert (source.pooling, source.normalize, source.max_tokens) == (Pooling.MEAN, True, 32)
    assert source.source.kind == "sentence-transformers"
    assert {"modules.json", "1_Pooling/config.json", "model.safetensors"} <= source.source.files.keys()


def test_options_go_before_what_the_folder_says(tmp_path: Path) -> None:
    options = BertOptions(pooling=Pooling.FIRST, normalize=False, max_tokens=48, name="mine", licence="MIT")
    source = read_bert_source(str(sentence_folder(tmp_path / "s")), options).source
    assert (source.pooling, source.normalize, source.max_tokens) == (Pooling.FIRST, False, 48)
    assert (source.name, source.licence) == ("mine", "MIT")


def test_without_normalize_vectors_keep_their_length(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "s", ("Transformer", "Pooling"))
    assert read_bert_source(str(folder), BertOptions()).source.normalize is False


def test_the_encoder_may_have_a_folder_of_its_own(tmp_path: Path) -> None:
    source = read_bert_source(
        str(sentence_folder(tmp_path / "s", encoder="0_Transformer")), BertOptions()
    ).source
    assert source.max_tokens == 32
    assert {"modules.json", "0_Transformer/model.safetensors"} <= source.source.files.keys()


def test_newer_class_paths_and_pooling_settings_are_understood(tmp_path: Path) -> None:
    folder = sentence_folder(
        tmp_path / "s", tuple(NEW.values()), pooling={"embedding_dimension": 32, "pooling_mode": "cls"}
    )
    assert read_bert_source(str(folder), BertOptions()).source.pooling is Pooling.FIRST


@pytest.mark.parametrize(
    ("switch", "pooling"),
    [
        ("pooling_mode_cls_token", Pooling.FIRST),
        ("pooling_mode_max_tokens", Pooling.MAX),
        ("pooling_mode_lasttoken", Pooling.LAST),
    ],
)
def test_older_switches_name_the_pooling(switch: str, pooling: Pooling, tmp_path: Path) -> None:
    settings = {"pooling_mode_mean_tokens": False, switch: True}
    folder = sentence_folder(tmp_path / "s", pooling=settings)
    assert read_bert_source(str(folder), BertOptions()).source.pooling is pooling


def test_prompts_stay_as_they_are_the_empty_one_too(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "passage": ""}
    settings = {"prompts": prompts, "default_prompt_name": "passage"}
    source = read_bert_source(str(sentence_folder(tmp_path / "s", prompts=settings)), BertOptions()).source
    assert (source.prompts, source.default_prompt) == (prompts, "passage")


def test_a_stated_limit_goes_before_the_tokenizers_but_not_beyond_the_positions(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "s", limits={"max_seq_length": 500})
    edit_json(folder / "tokenizer_config.json", model_max_length=20)
    assert read_bert_source(str(folder), BertOptions()).source.max_tokens == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ("Transformer", "Pooling", "Dense")}, r"2_Dense/config\.json is missing"),
        ({"kinds": ("Transformer", "Pooling", "CNN")}, "has the module CNN"),
        ({"kinds": ("BoW",)}, "chains BoW"),
        ({"kinds": ("Transformer", "Normalize", "Pooling")}, "chains Transformer, Normalize, Pooling"),
        ({"pooling": {"pooling_mode": ["cls", "median"]}}, "pooling_mode is \\['cls', 'median'\\]"),
        ({"limits": {"transformer_task": "fill-mask"}}, "'fill-mask' does not give embeddings"),
        ({"prompts": {"prompts": {}, "default_prompt_name": "query"}}, "default prompt 'query'"),
        ({"prompts": {"prompts": {"query": 3}}}, "map names to texts"),
        ({"encoder": "../outside"}, "points outside its folder"),
    ],
)
def test_what_a_bundle_cannot_express_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = sentence_folder(tmp_path / "s", **change)
    with pytest.raises(SourceError, match=message):
        read_bert_source(str(folder), BertOptions())


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "s")
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(SourceError, match=r"1_Pooling/config\.json is missing"):
        read_bert_source(str(folder), BertOptions())
    (folder / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(SourceError, match="does not list modules"):
        read_bert_source(str(folder), BertOptions())


@pytest.mark.parametrize(
    ("files", "identifier", "text"),
    [
        (
            {"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# A"},
            "Apache-2.0",
            "under the licence Apache-2.0",
        ),
        ({"README.md": '---\r\nlicense: "mit"\r\n---\r\n'}, "MIT", "under the licence MIT"),
        ({"README.md": "---\nlicense:\n- cc-by-4.0\n---\n"}, "CC-BY-4.0", "CC-BY-4.0"),
        ({"README.md": "---\ntags: [x]\n---\nlicense: mit\n---\n"}, "unknown", "is not known"),
        ({"README.md": "license: mit"}, "unknown", "is not known"),
        ({"LICENSE": "MIT License\n\nCopyright"}, "MIT", "Copyright"),
        ({"LICENSE.txt": "All mine", "README.md": "---\nlicense: other\n---"}, "other", "All mine"),
        ({"LICENSE": "All mine"}, "see LICENSE", "All mine"),
        ({}, "unknown", "is not known"),
    ],
)
def test_the_licence_is_found_or_its_absence_said(
    files: dict[str, str], identifier: str, text: str, tmp_path: Path
) -> None:
    folder = copy_source(tmp_path / "s")
    for name, content in files.items():
        (folder / name).write_text(content, newline="")
    read = read_bert_source(str(folder), BertOptions())
    assert read.source.licence == identifier
    assert text in read.source.licence_text
    assert any("no licence found" in note for note in read.notes) == (identifier == "unknown")
