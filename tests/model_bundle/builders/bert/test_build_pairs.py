"""Building heads for two texts: which activation, which settings of a CrossEncoder, which flags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, ReadBert, read_bert_source
from model_bundle.cli.main import main
from model_bundle.errors import SourceError
from tests.conftest import DATA_DIR
from tests.support.models.bert_formats import copy_source, edit_json
from tests.support.models.pairs import RERANKER

SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def read(folder: Path, **options: Any) -> ReadBert:
    return read_bert_source(str(folder), BertOptions(head=HeadOptions(pairs=True, **options)))


def scores(folder: Path, **options: Any) -> str:
    head = read(folder, **options).source.head
    assert head is not None
    assert head.pair_truncation == "longest_first"
    return head.scores


def test_scores_of_one_label_are_those_of_the_stack_that_saved_it(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "m", DATA_DIR / RERANKER)
    assert scores(folder) == "as_is"
    assert scores(folder, scores="sigmoid") == "sigmoid"
    for stated, expected in ((SIGMOID, "sigmoid"), (IDENTITY, "as_is")):
        edit_json(folder / "config.json", sentence_transformers={"activation_fn": stated, "version": "4.1.0"})
        assert scores(folder) == expected
        edit_json(folder / "config.json", sentence_transformers=None)
        edit_json(folder / "config.json", sbert_ce_default_activation_function=stated)
        assert scores(folder) == expected
        edit_json(folder / "config.json", sbert_ce_default_activation_function=None)
    edit_json(folder / "config_sentence_transformers.json", model_type="CrossEncoder", prompts={})
    assert scores(folder) == "sigmoid"
    edit_json(folder / "config_sentence_transformers.json", activation_fn="torch.nn.modules.activation.Tanh")
    with pytest.raises(SourceError, match="the activation of its scores is 'torch"):
        read(folder)
    assert scores(folder, scores="as_is") == "as_is"


def test_a_folder_that_sentence_transformers_saved(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "m", DATA_DIR / RERANKER)
    for path in (DATA_DIR / "cross_encoder").iterdir():
        shutil.copy(path, folder / path.name)
    found = read(folder)
    assert found.source.head is not None
    assert found.source.head.scores == "sigmoid"
    with pytest.raises(
        SourceError, match=r"scores two texts together .*CrossEncoder.*--task pairs.*--single_text"
    ):
        read_bert_source(str(folder), BertOptions(head=HeadOptions()))
    modules = folder / "modules.json"
    kept = modules.read_text() if modules.exists() else "[]"
    modules.write_text(
        json.dumps([{"type": "a.Transformer", "path": ""}, {"type": "b.LogitScore", "path": "1"}])
    )
    with pytest.raises(SourceError, match="chains Transformer, LogitScore; expected one Transformer"):
        read(folder)
    for odd in ("5", "[1]"):
        modules.write_text(odd)
        with pytest.raises(SourceError, match="expected one Transformer"):
            read(folder)
    modules.write_text(kept)
    edit_json(folder / "config_sentence_transformers.json", prompts={"query": "q: "})
    with pytest.raises(SourceError, match="has prompts"):
        read(folder)
    edit_json(folder / "config_sentence_transformers.json", prompts={}, unheard=1)
    with pytest.raises(SourceError, match="'unheard'"):
        read(folder)


def test_labels_of_an_entailment_head_are_its_own(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "m", DATA_DIR / "tiny_distilbert_mood")
    names = ("contradiction", "entailment", "neutral")
    edit_json(folder / "config.json", id2label=dict(enumerate(names)), label2id=None)
    found = read(folder).source
    assert found.head is not None
    assert (found.head.labels, found.head.scores) == (names, "softmax")
    assert not found.config.takes_types
    with pytest.raises(SourceError, match=r"its labels: .*Build it with --task pairs"):
        read_bert_source(str(folder), BertOptions(head=HeadOptions()))


def test_segments_need_a_tokenizer_that_gives_them(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "m", DATA_DIR / RERANKER)
    assert read(folder).source.config.takes_types
    edit_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    assert not read(folder).source.config.takes_types
    assert not read(DATA_DIR / "tiny_roberta_topics").source.config.takes_types


def test_heads_of_tokens_are_refused() -> None:
    with pytest.raises(SourceError, match="classifies tokens; --task pairs needs one that scores texts"):
        read(DATA_DIR / "tiny_bert_entities")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scores", "sigmoid"], "--scores has no effect without --task pairs"),
        (
            ["--task", "classify", "--pair_truncation", "only_second"],
            "--pair_truncation has no effect without",
        ),
        (["--task", "pairs", "--single_text"], "--single_text has no effect without --task classify"),
        (
            ["--labels", "l", "--multi_label", "no"],
            "--labels, --multi_label have no effect without --task classify",
        ),
        (["--task", "pairs", "--int8"], "--int8 is not offered with --task pairs"),
        (["--task", "pairs", "--texts", "t.txt", "--expected", "old.npy"], "--expected is not offered with"),
        (["--task", "pairs", "--pooling", "mean"], "--pooling is not offered with --task pairs"),
    ],
)
def test_flags_without_effect_are_refused(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "bert", str(DATA_DIR / RERANKER), "--output", str(tmp_path / "bundle")]
    assert main([*command, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
