"""Sources that cannot become a bundle: each is refused with what was expected and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import SourceError, WeightsMismatchError
from tests.support.models import bert_formats
from tests.support.models.bert_formats import TINY_BERT, copy_source, edit_json, stored_weights, write_weights


def refused(folder: Path, message: str, **options: Any) -> SourceError:
    with pytest.raises(SourceError, match=message) as raised:
        read_bert_source(str(folder), BertOptions(**options))
    return raised.value


def test_weights_left_over_and_missing_are_listed_together(tmp_path: Path) -> None:
    weights = stored_weights()
    query = weights.pop("bert.encoder.layer.0.attention.self.query.weight")
    weights["bert.encoder.layer.0.attention.self.adapter.weight"] = query
    weights["bert.pooler.dense.bias"] = np.zeros(7, np.float32)
    error = refused(write_weights(tmp_path / "s", weights), "do not fit the model")
    assert isinstance(error, WeightsMismatchError)
    assert error.missing == ("layer_0/attention/query/kernel",)
    assert error.unused == ("bert.encoder.layer.0.attention.self.adapter.weight",)
    assert error.wrong_shapes == ("bert.pooler.dense.bias: stored [7], expected [32]",)
    for name in (*error.missing, *error.unused, *error.wrong_shapes):
        assert name in str(error)


def test_a_configuration_of_fewer_layers_leaves_weights_over(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s")
    edit_json(folder / "config.json", num_hidden_layers=1)
    error = refused(folder, "do not fit the model")
    assert isinstance(error, WeightsMismatchError)
    assert len(error.unused) == 16
    assert all("encoder.layer.1." in name for name in error.unused)


def test_half_a_pooler_is_no_pooler(tmp_path: Path) -> None:
    weights = stored_weights()
    del weights["bert.pooler.dense.bias"]
    error = refused(write_weights(tmp_path / "s", weights), "do not fit the model")
    assert isinstance(error, WeightsMismatchError)
    assert error.missing == ("pooler/bias",)


def test_a_weight_stored_twice_is_not_chosen_from(tmp_path: Path) -> None:
    weights = stored_weights()
    weights["embeddings.LayerNorm.gamma"] = weights["bert.embeddings.LayerNorm.weight"] + 1
    refused(write_weights(tmp_path / "s", weights), r"embeddings\.LayerNorm\.\w+ \(the same as ")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "epoch.ckpt", "pytorch_model.bin.index.json"]
)
def test_pickles_are_refused_with_the_way_to_convert_them(name: str, tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s", without=("model.safetensors",))
    (folder / name).write_bytes(b"\x80\x04.")
    error = refused(folder, f"contains only {name}")
    assert "save_pretrained" in str(error)
    assert "SentenceTransformer" in str(error)


def test_no_weights_at_all_names_what_was_looked_for(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s", without=("model.safetensors",))
    refused(folder, r"Looked for model\.safetensors, .*tf_model\.h5\.index\.json and bert_model\.ckpt\.index")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "xlnet"}, "is a 'xlnet' model"),
        ({"model_type": None, "architectures": None}, "does not state its architecture"),
        ({"hidden_act": "swish"}, "activation 'swish'"),
        ({"position_embedding_type": "relative_key"}, "expected .absolute."),
        ({"is_decoder": True}, "sets .is_decoder. to True; expected False"),
        ({"surprise": [1]}, r"sets .surprise. to \[1\], which no supported model"),
        ({"hidden_size": None}, "'hidden_size' is None"),
        ({"vocab_size": "120"}, "'vocab_size' is '120'"),
        ({"num_attention_heads": 5}, "5 heads do not divide"),
    ],
)
def test_another_architecture_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s")
    edit_json(folder / "config.json", **changes)
    refused(folder, message)


def test_a_configuration_from_before_model_type_tells_by_its_class(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s")
    edit_json(folder / "config.json", model_type=None)
    assert read_bert_source(str(folder), BertOptions()).source.config.num_layers == 2


def test_a_folder_without_a_configuration_or_a_tokenizer_says_so(tmp_path: Path) -> None:
    refused(copy_source(tmp_path / "a", without=("config.json",)), r"no config\.json .* no bert_config\.json")
    refused(
        copy_source(tmp_path / "b", without=("tokenizer.json",)), r"Looked for tokenizer\.json, vocab\.txt"
    )


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = (TINY_BERT / "model.safetensors").read_bytes()
    for name, content, message in (
        ("config.json", b"{", "config.json is not JSON"),
        ("config.json", b"[]", "contains a list, expected a JSON object"),
        ("model.safetensors", whole[:-100], "not a complete safetensors file"),
        ("model.safetensors", b"nonsense", "not a complete safetensors file"),
        ("tokenizer.json", b'{"version": "1.0"}', "tokenizer in .* cannot be read"),
    ):
        folder = copy_source(tmp_path / "s")
        (folder / name).write_bytes(content)
        refused(folder, message)


def test_a_damaged_h5_or_checkpoint_is_named(tmp_path: Path) -> None:
    folder = bert_formats.write_h5(tmp_path / "h5")
    data = (folder / "tf_model.h5").read_bytes()
    (folder / "tf_model.h5").write_bytes(data[: len(data) // 2])
    refused(folder, "not a complete HDF5 file")
    folder = bert_formats.write_google(tmp_path / "google")
    shard = folder / "bert_model.ckpt.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:1000])
    refused(folder, "cannot be read")
    shard.unlink()
    refused(folder, "cannot be read")


def test_shards_must_be_there_and_beside_their_index(tmp_path: Path) -> None:
    folder = bert_formats.write_shards(tmp_path / "s")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    moved = dict(content["weight_map"], **{"bert.pooler.dense.bias": "model-00001-of-00003.safetensors"})
    index.write_text(json.dumps({"weight_map": moved}))
    refused(folder, r"not in their files: bert\.pooler\.dense\.bias")
    index.write_text(json.dumps({"weight_map": dict(moved, x="../../model.safetensors")}))
    refused(folder, "points outside its folder")
    index.write_text(json.dumps(content))
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(folder, r"do not exist: model-00002-of-00003\.safetensors")


def test_a_weight_that_no_index_lists_is_not_lost_sight_of(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = bert_formats.write_shards(tmp_path / "s")
    shard = folder / "model-00003-of-00003.safetensors"
    save_file({**load_file(shard), "bert.surprise": np.zeros(3, np.float32)}, shard)
    error = refused(folder, "do not fit the model")
    assert isinstance(error, WeightsMismatchError)
    assert error.unused == ("bert.surprise",)


def test_shards_of_hdf5_are_checked_as_well(tmp_path: Path) -> None:
    folder = bert_formats.write_h5_shards(tmp_path / "s")
    shards = sorted(folder.glob("tf_model-*.h5"))
    index = folder / "tf_model.h5.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**listed, "tf_bert_model/bert/lost:0": shards[0].name}}))
    refused(folder, r"not in their files: tf_bert_model/bert/lost:0")
    index.write_text(json.dumps({"weight_map": listed}))
    whole = shards[1].read_bytes()
    shards[1].write_bytes(shards[0].read_bytes())
    refused(folder, r"tf_model-00002-of-00003\.h5 has weights of another file, too: bert/")
    shards[1].write_bytes(whole[:900])
    refused(folder, r"tf_model-00002-of-00003\.h5 is not a complete HDF5 file")
    shards[1].unlink()
    refused(folder, r"do not exist: tf_model-00002-of-00003\.h5")


def test_quantised_and_broken_weights_are_refused(tmp_path: Path) -> None:
    weights = stored_weights()
    name = "bert.encoder.layer.1.output.dense.weight"
    whole = weights[name]
    weights[name] = whole.astype(np.int8)
    refused(write_weights(tmp_path / "a", weights), f"{name} is stored as int8; quantised")
    weights[name] = whole.copy()
    weights[name][3, 4] = np.nan
    refused(write_weights(tmp_path / "b", weights), f"{name} contains NaN")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = bert_formats.write_google(tmp_path / "s")
    with (folder / "vocab.txt").open("a") as stream:
        stream.write("surplus\n")
    refused(folder, "ids up to 120, the model has 120 word embeddings")


def test_a_vocabulary_must_be_one_of_bert_and_agree_with_its_name(tmp_path: Path) -> None:
    folder = bert_formats.write_google(tmp_path / "cased_L-2_H-32")
    error = refused(folder, "0 tokens have capital letters, but the folder is called cased_L-2_H-32")
    assert "--lowercase" in str(error)
    assert read_bert_source(str(folder), BertOptions(lowercase=True)).source.lowercase
    vocab = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(vocab.replace("[SEP]", "sep"))
    refused(folder, r"lacks \[SEP\]", lowercase=True)


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s")
    refused(folder, "positions for 64 tokens", max_tokens=65)
    refused(folder, "positions for 64 tokens", max_tokens=2)
    refused(folder, "--revision main: .* is a folder", revision="main")
    refused(folder, "--lowercase: the tokenizer in .* lower-cases", lowercase=False)
    refused(
        TINY_BERT.parent / "tiny_roberta",
        "--pooling pooler: this model has no pooler",
        pooling=Pooling.POOLER,
    )
    refused(folder / "config.json", "is a file; name the folder")
    edit_json(folder / "tokenizer_config.json", truncation_side="left")
    refused(folder, "truncates texts at the start")


def test_several_checkpoints_are_not_chosen_from(tmp_path: Path) -> None:
    folder = bert_formats.write_google(tmp_path / "s")
    for number in (10, 20):
        (folder / f"model.ckpt-{number}.index").write_bytes(b"")
    assert read_bert_source(str(folder), BertOptions()).source.source.kind == "google"
    (folder / "bert_model.ckpt.index").unlink()
    refused(folder, r"several checkpoints: model\.ckpt-10, model\.ckpt-20")


@pytest.mark.parametrize("place", ["./no/such/folder", "/no/such", "a/b/c", "name with space"])
def test_what_is_neither_folder_nor_hub_identifier_is_said_at_once(place: str) -> None:
    with pytest.raises(SourceError, match="is neither a local folder"):
        read_bert_source(place, BertOptions())
