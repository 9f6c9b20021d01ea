"""Each setting of a tokenizer or configuration: it changes what is built, means nothing, or is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders import known_settings as known
from model_bundle.builders.bert.families.registry import FAMILIES, encoder_config
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.builders.bert.text_pairs import pair_evidence
from model_bundle.builders.elmo.bilm_files import read_options
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tokenizer import read_tokenizer
from model_bundle.errors import SourceError
from tests.conftest import DATA_DIR, shared_path
from tests.support.models.bert_formats import copy_source, edit_json

CASES = "cases/models"
TEXTS = ("The <b> cat", "Über CAFÉ", "北京 good", "[CLS] <pad> <s>", "sentence </s> [MASK]", "a\u0000b")
# A value of each used setting that differs from what the folders below have.
FLIPS: dict[str, Any] = {
    "model_type": "xlnet",
    "architectures": ["RobertaForSequenceClassification"],
    "vocab_size": 999,
    "pad_token_id": 7,
    "max_position_embeddings": 13,
    "num_hidden_layers": 9,
    "num_attention_heads": 1,
    "hidden_size": 8,
    "intermediate_size": 5,
    "embedding_size": 5,
    "num_hidden_groups": 3,
    "inner_group_num": 3,
    "type_vocab_size": 7,
    "layer_norm_eps": 0.25,
    "hidden_act": "relu",
    "hidden_activation": "relu",
    "norm_eps": 0.25,
    "norm_bias": True,
    "attention_bias": True,
    "mlp_bias": True,
    "local_attention": 40,
    "global_attn_every_n_layers": 2,
    "layer_types": ["full_attention"] * 4,
    "global_rope_theta": 77.0,
    "local_rope_theta": 77.0,
    "rope_parameters": {"full_attention": {"rope_theta": 77.0}},
    "classifier_pooling": "mean",
    "classifier_bias": True,
    "classifier_activation": "relu",
    "relative_attention": False,
    "max_relative_positions": 77,
    "position_buckets": 6,
    "position_biased_input": True,
    "pos_att_type": ["c2p"],
    "share_att_key": False,
    "norm_rel_ebd": "none",
    "conv_kernel_size": 3,
    "conv_act": "relu",
    "conv_groups": 77,
    "attention_head_size": 77,
    "pooler_hidden_act": "relu",
    "pooler_hidden_size": 77,
    "n_layers": 9,
    "n_heads": 1,
    "dim": 8,
    "hidden_dim": 5,
    "activation": "gelu_new",
    "tokenizer_class": "NoSuchTokenizer",
    "do_lower_case": False,
    "strip_accents": False,
    "tokenize_chinese_chars": False,
    "model_max_length": 9,
    "max_len": 9,
    "unk_token": "the",
    "cls_token": "the",
    "sep_token": "the",
    "pad_token": "<b>",
    "mask_token": "sentence",
    "bos_token": "sentence",
    "eos_token": "sentence",
    "additional_special_tokens": ["The"],
    "extra_special_tokens": ["The"],
    "added_tokens_decoder": {"23": {"content": "The <b>", "special": True}},
    "truncation_side": "left",
}


# Values out of those below that a setting can have.
POSSIBLE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("layer_norm_eps", "norm_eps", "global_rope_theta", "local_rope_theta"), (0.5,)),
    **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), (True,)),
    **dict.fromkeys(("relative_attention", "share_att_key", "position_biased_input"), (True,)),
    **dict.fromkeys(("position_buckets", "max_relative_positions", "conv_kernel_size"), (-1,)),
}
# Where 3 is no possible value.
WITHOUT_EFFECT: dict[str, Any] = {
    "padding_side": "left",
    "model_input_names": ["input_ids"],
    "chat_template": "{{ messages }}",
    "vocab_file": "/tmp/none",
    "tokenizer_file": "/tmp/none",
    "merges_file": "/tmp/none",
}


def flipped(kind: known.KnownSettings) -> Iterator[tuple[str, Any]]:
    """Yields each refused setting with a value that states the feature, and one that nobody knows."""
    for key, harmless in kind.only.items():
        yield key, (not harmless[0]) if harmless and isinstance(harmless[0], bool) else ["something"]
    yield "surprise", 1


TABLES = {name: table for name, table in vars(known).items() if isinstance(table, known.KnownSettings)}
TABLES |= {family.name: family.known for family in FAMILIES}
BY_TYPE = {kind: family.known for family in FAMILIES for kind in family.model_types}
# Folders of models, by their model type.
FOLDERS = {
    "bert": "tiny_bert",
    "distilbert": "tiny_distilbert",
    "roberta": "tiny_roberta",
    "mpnet": "families/mpnet",
    "electra": "families/electra",
    "albert": "families/albert_groups",
    "modernbert": "encoders/modernbert",
    "deberta-v2": "encoders/deberta",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_knows_each_setting_once_and_refuses_what_it_does_not_know(name: str) -> None:
    table = TABLES[name]
    keys = [*table.used.split(), *table.without_effect.split(), *table.only]
    assert len(keys) == len(set(keys))
    table.check(dict.fromkeys(keys), "file")
    table.check({key: values[0] for key, values in table.only.items() if values}, "file")
    for key, value in flipped(table):
        with pytest.raises(SourceError, match=f"file sets '{key}' to"):
            table.check({key: value}, "file")


@pytest.mark.parametrize("kind", BY_TYPE)
def test_what_transformers_writes_today_is_known(kind: str) -> None:
    from transformers import AutoConfig

    BY_TYPE[kind].check(AutoConfig.for_model(kind).to_dict(), kind)


def model_state(config: Mapping[str, Any]) -> Any:
    """What is built from a configuration; a head's part of it is in test_build_bert_heads.py."""
    kept = {key: config.get(key) for key in ("architectures", "tokenizer_class")}
    return encoder_config(dict(config), has_pooler=True, where="file"), kept


def config_of(kind: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((DATA_DIR / FOLDERS[kind] / "config.json").read_text())
    return config


@pytest.mark.parametrize("kind", FOLDERS)
def test_each_setting_of_a_model_counts_or_means_nothing(kind: str) -> None:
    config, table = config_of(kind), BY_TYPE[kind]
    before = model_state(config)
    of_head = set(known.HEAD.split())
    for key in table.used.split():
        if key in of_head:
            continue
        try:
            assert model_state(config | {key: FLIPS[key]}) != before, key
        except SourceError as error:
            assert str(FLIPS[key]) in str(error), key  # noqa: PT017
    for key in table.without_effect.split():
        assert model_state(config | {key: 3}) == before, key


@pytest.mark.parametrize("kind", FOLDERS)
def test_each_setting_with_an_unsupported_value_is_refused_by_its_name(kind: str) -> None:
    config, table = config_of(kind), BY_TYPE[kind]
    # Names of classes, for other readers, and what is read with a head; see test_build_bert_heads.py.
    elsewhere = {"architectures", "tokenizer_class", "model_type", *known.HEAD.split()}
    for key in {*table.used.split(), *table.only} - elsewhere:
        for value in (-1, "surprise", 0.5, [7], True):
            if value in table.only.get(key, ()) or value in POSSIBLE.get(key, ()):
                continue
            with pytest.raises(SourceError, match=f"'{key}'"):
                model_state(config | {key: value})


def tokenizer_folder(target: Path, family: str) -> Path:
    """A folder with a tokenizer as transformers 4.5 (``slow``) or 5 wrote it."""
    if family != "slow":
        return copy_source(target, DATA_DIR / family)
    target.mkdir()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sentence", "good", "The", "<b>"]
    tokens += ["uber", "über", "cafe", "café", "北", "京", "北京", "a", "b", "<", ">", "sat"]
    (target / "vocab.txt").write_text("\n".join(tokens) + "\n")
    edit_json(target / "tokenizer_config.json", do_lower_case=True)
    return target


def tokenizer_state(folder: Path) -> Any:
    """Ids of some texts, and the limit."""
    from tokenizers import Tokenizer

    read = read_tokenizer(SourceFolder(folder), None)
    backend = Tokenizer.from_str(read.json_text)
    return [backend.encode(text).ids for text in TEXTS], read.max_tokens


# Settings that this class of transformers does not have, or that its file decides.
NOWHERE = {
    "keep_accents",
    "tokenizer_class",
    "add_prefix_space",
    "add_bos_token",
    "add_eos_token",
    "bos_token",
    "eos_token",
}
UNREAD = {
    "slow": NOWHERE,
    "tiny_bert": NOWHERE | {"mask_token", "pad_token"},
    "tiny_roberta": {
        *(NOWHERE | {"mask_token", "pad_token", "unk_token"}),
        *("do_lower_case", "strip_accents", "tokenize_chinese_chars"),
    },
}


@pytest.mark.parametrize("family", ["slow", "tiny_bert", "tiny_roberta"])
def test_each_setting_of_a_tokenizer_counts_or_means_nothing(family: str, tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "t", family)
    stated = folder / "tokenizer_config.json"
    original = stated.read_bytes()
    before = tokenizer_state(folder)
    silent = set()
    for key in known.TOKENIZER.used.split():
        content = json.loads(original) | {key: FLIPS.get(key, True)}
        if key == "max_len":
            content.pop("model_max_length", None)
        stated.write_text(json.dumps(content))
        try:
            if tokenizer_state(folder) == before:
                silent.add(key)
        except SourceError:
            pass
    assert silent <= UNREAD[family], silent - UNREAD[family]
    for key in known.TOKENIZER.without_effect.split():
        stated.write_text(json.dumps(json.loads(original) | {key: WITHOUT_EFFECT.get(key, 3)}))
        assert tokenizer_state(folder) == before, key


@pytest.mark.needs_shared
@pytest.mark.parametrize("case", ["t1_strip_accents_false", "t3_added_tokens"])
def test_folders_of_transformers_4_5_give_what_it_gave(case: str) -> None:
    from model_bundle.builders.graphs.bert import BertEncoder
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    folder = shared_path(f"{CASES}/{case}")
    expected = json.loads((folder / "expected.json").read_text())
    source = read_bert_source(str(folder), BertOptions()).source
    assert source.max_tokens == min(expected["slow"]["max"], 40)
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(source.tokenizer_json)
    encoder = BertEncoder(source.config, source.weights, "test")
    for text, tokens, vector in zip(
        expected["texts"], expected["slow"]["tokens"], expected["slow"]["vec"], strict=True
    ):
        encoding = backend.encode(text)
        assert encoding.tokens == tokens
        ids = tf.constant([encoding.ids], tf.int32)
        states = encoder.encode(ids, tf.ones_like(ids))[-1].numpy()[0]
        nearest = min(
            float(np.abs(found - np.array(vector)).max()) for found in (states[0], states.mean(axis=0))
        )
        assert nearest < 1e-5


def test_a_special_tokens_map_counts(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "t", "slow")
    before = tokenizer_state(folder)
    edit_json(folder / "added_tokens.json", **{"<url>": 23})
    assert read_tokenizer(SourceFolder(folder), None).vocab_size == 24
    edit_json(folder / "special_tokens_map.json", unk_token={"content": "the"}, mask_token="sentence")
    assert tokenizer_state(folder) != before
    edit_json(folder / "special_tokens_map.json", surprise="x")
    with pytest.raises(SourceError, match=r"special_tokens_map.json sets 'surprise'"):
        read_tokenizer(SourceFolder(folder), None)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("", "bidirectional", False),
        ("char_cnn", "activation", "tanh"),
        ("char_cnn", "embedding", {"dim": 5}),
        ("char_cnn", "filters", [[1, 4]]),
        ("char_cnn", "n_highway", 1),
        ("char_cnn", "n_characters", 300),
        ("char_cnn", "max_characters_per_token", 20),
        ("lstm", "dim", 5),
        ("lstm", "projection_dim", 5),
        ("lstm", "n_layers", 1),
        ("lstm", "use_skip_connections", False),
        ("lstm", "cell_clip", 5),
        ("lstm", "proj_clip", 5),
    ],
)
def test_each_option_of_a_bilm_counts(part: str, key: str, value: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "bidirectional": True,
        "char_cnn": {
            "activation": "relu",
            "embedding": {"dim": 4},
            "filters": [[1, 4], [2, 8]],
            "n_highway": 2,
            "n_characters": 262,
            "max_characters_per_token": 50,
        },
        "lstm": dict.fromkeys(("cell_clip", "proj_clip"), 3)
        | {"dim": 64, "n_layers": 2, "projection_dim": 16, "use_skip_connections": True},
    }
    path = tmp_path / "options.json"
    path.write_text(json.dumps(options))
    before = read_options(path)
    options.get(part, options)[key] = value
    path.write_text(json.dumps(options))
    try:
        assert read_options(path) != before
    except SourceError as error:
        assert key in str(error)  # noqa: PT017


PAIRS: list[dict[str, Any]] = [
    {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"},
    {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.1"}},
    {"finetuning_task": "mnli"},
    {"id2label": {"0": "CONTRADICTION", "1": "NEUTRAL", "2": "ENTAILMENT"}},
    {"id2label": {"0": "not_equivalent", "1": "equivalent"}},
]


@pytest.mark.parametrize("changes", PAIRS)
def test_a_head_for_two_texts_is_refused_unless_told_otherwise(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = copy_source(tmp_path / "m", DATA_DIR / "tiny_distilbert_mood")
    if len(changes.get("id2label", "123")) == 2:
        assert pair_evidence(changes, "")
        return
    edit_json(folder / "config.json", **changes)
    with pytest.raises(SourceError, match="scores two texts together"):
        read_bert_source(str(folder), BertOptions(head=HeadOptions()))
    told = read_bert_source(str(folder), BertOptions(head=HeadOptions(single_text=True)))
    assert any("--single_text" in note for note in told.notes)
    # The encoder alone is no head: its vectors are of one text anyway.
    assert read_bert_source(str(folder), BertOptions()).source.head is None


def test_a_model_card_can_say_that_a_head_takes_two_texts(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "m", DATA_DIR / "tiny_distilbert_mood")
    card = folder / "README.md"
    for tag in ("pipeline_tag: text-ranking", "tags:\n- cross-encoder", 'pipeline_tag: "text-ranking"'):
        card.write_text(f"---\nlicense: mit\n{tag}\n---\nAbout it\n")
        with pytest.raises(SourceError, match="its model card"):
            read_bert_source(str(folder), BertOptions(head=HeadOptions()))
    card.write_text(
        "---\npipeline_tag: text-classification\n---\nNot a cross-encoder, and no text-ranking.\n"
    )
    assert read_bert_source(str(folder), BertOptions(head=HeadOptions())).source.head is not None


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": {"0": "neutral", "1": "positive"}},
        {"id2label": {"0": "good", "1": "bad"}, "finetuning_task": "sst2"},
        {"id2label": {"0": "LABEL_0"}, "problem_type": "regression"},
        {"type_vocab_size": 2},
        {"sentence_transformers": {"version": "5.0.0"}},
        {},
    ],
)
def test_ordinary_heads_take_one_text(config: dict[str, Any]) -> None:
    assert pair_evidence(config, "# Card\ncross-encoder\n") is None
