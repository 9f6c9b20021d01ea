"""Settings that nobody means: each is refused by its name, before anything is made in its size."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.bert.families.registry import encoder_config
from model_bundle.builders.bert.token_limit import choose_limit
from model_bundle.errors import SourceError
from tests.conftest import DATA_DIR

HUGE = 10**9
# The name of the number of layers, by a model of each architecture.
MODELS = {
    "tiny_bert": "num_hidden_layers",
    "tiny_roberta": "num_hidden_layers",
    "tiny_distilbert": "n_layers",
    "families/mpnet": "num_hidden_layers",
    "families/electra": "num_hidden_layers",
    "families/albert": "num_hidden_layers",
    "encoders/modernbert": "num_hidden_layers",
    "encoders/deberta": "num_hidden_layers",
    "encoders/deberta1.npz": "num_hidden_layers",
}


@cache
def stated(model: str) -> dict[str, Any]:
    path = DATA_DIR / model
    if path.is_dir():
        return dict(json.loads((path / "config.json").read_text()))
    with np.load(path) as stored:
        return dict(json.loads(stored["config"].tobytes()))


def message(model: str, **changes: Any) -> str:
    assert encoder_config(stated(model), has_pooler=False, where="f")
    with pytest.raises(SourceError) as caught:
        encoder_config(stated(model) | changes, has_pooler=False, where="f")
    return str(caught.value)


@pytest.mark.parametrize(("model", "layers"), MODELS.items())
def test_numbers_that_no_model_has_are_refused_by_name(model: str, layers: str) -> None:
    assert f"'{layers}' is {HUGE}; expected a whole number from 1 to 1000" in message(model, **{layers: HUGE})
    assert f"'vocab_size' is {HUGE}" in message(model, vocab_size=HUGE)
    assert "'max_position_embeddings' is 2" in message(model, max_position_embeddings=2)
    heads = "n_heads" if "distil" in model else "num_attention_heads"
    assert f"'{heads}' is 0" in message(model, **{heads: 0})
    if "mpnet" not in model:
        assert "'pad_token_id' is 9999; expected one of " in message(model, pad_token_id=9999)
    assert "is a '[[1]]' model; supported" in message(model, model_type=[[1]])


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ("families/albert", {"inner_group_num": HUGE}, "'inner_group_num' is"),
        ("encoders/deberta", {"max_position_embeddings": 2**20}, "'max_position_embeddings' is"),
        ("encoders/deberta", {"position_buckets": 1}, "'position_buckets' is 1 with distances up to 127"),
        ("encoders/deberta", {"max_relative_positions": 5}, "expected 2 to 7: others give far"),
        ("encoders/deberta", {"pos_att_type": [["c2p"]]}, "expected each of c2p, p2c once"),
        ("encoders/modernbert", {"layer_types": [{}] * 4}, "expected 4 names out of"),
        ("encoders/modernbert", {"rope_parameters": {"full_attention": 1}}, "'rope_parameters' is"),
        ("encoders/modernbert", {"global_rope_theta": 0}, "expected a number over 0"),
    ],
)
def test_what_only_one_family_has_is_refused_by_name(model: str, changes: dict[str, Any], said: str) -> None:
    assert said in message(model, **changes)


def test_near_buckets_are_enough_for_short_texts() -> None:
    changes = {"max_position_embeddings": 129, "position_buckets": 256, "max_relative_positions": -1}
    config: Any = encoder_config(stated("encoders/deberta") | changes, has_pooler=False, where="f")
    # 256 vectors on either side, each of one distance.
    assert config.relative_rows()[1:-1].tolist() == list(range(256 - 128, 256 + 129))


def test_the_default_padding_of_modernbert_need_not_fit_a_small_vocabulary() -> None:
    without = {key: value for key, value in stated("encoders/modernbert").items() if key != "pad_token_id"}
    assert encoder_config(without, has_pooler=False, where="f").pad_id == 0


def test_a_limit_beyond_the_positions_is_lowered_and_said() -> None:
    assert choose_limit(None, 128, 512, 512, "f").tokens == 128
    assert choose_limit(None, None, 64, 512, "f").tokens == 64
    assert choose_limit(None, None, None, 512, "f").notes == ()
    assert choose_limit(300, 128, 512, 512, "f").tokens == 300
    assert choose_limit(300, 1024, None, 512, "f").notes == ()
    for sentence, tokenizer in ((1024, 64), (None, 1024)):
        found = choose_limit(None, sentence, tokenizer, 512, "f")
        assert found.tokens == 512
        assert found.notes == ("max_tokens: 512, for which the model has positions; its files state 1024",)
    with pytest.raises(SourceError, match=r"--max_tokens 513: the model has positions for 512"):
        choose_limit(513, 128, 512, 512, "f")


@pytest.mark.parametrize("wrong", [0, 2, -5, "128", 128.0, True])
def test_a_limit_that_leaves_no_room_is_refused(wrong: Any) -> None:
    with pytest.raises(SourceError, match=r"'max_seq_length' is .*; expected a whole number of at least 3"):
        choose_limit(None, wrong, 512, 512, "f")
