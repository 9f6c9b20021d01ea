"""BERT, DistilBERT and RoBERTa from every format, against what PyTorch gave (``tests/goldens``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_bundle.builders.bert.build import BertSource
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.builders.tokenizer import SubwordTokenizer
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.encoder import Encoder
from model_bundle.text.subwords import SubwordInput
from tests.conftest import DATA_DIR, shared_path
from tests.support.models import bert_formats

TOLERANCE = 1e-5
MODELS = ("tiny_bert", "tiny_distilbert", "tiny_roberta")
FORMATS: dict[str, Callable[[Path], Path]] = {
    "shards": bert_formats.write_shards,
    "tensorflow_safetensors": bert_formats.write_tensorflow_safetensors,
    "h5": bert_formats.write_h5,
    "h5_shards": bert_formats.write_h5_shards,
    "google": bert_formats.write_google,
    "google_in_a_module": lambda target: bert_formats.write_google(target, "module/"),
    "google_in_two_scopes": lambda target: bert_formats.write_google(target, "replica_0/student_model/"),
}


def expected(model: str) -> dict[str, np.ndarray]:
    with np.load(DATA_DIR / model / "expected.npz") as stored:
        return {name: stored[name] for name in stored.files}


def texts(golden: dict[str, np.ndarray]) -> list[str]:
    return list(json.loads(golden["texts"].tobytes()))


def states_of(source: BertSource, golden: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Runs the graph on the golden ids: float32[layers + 1, texts, tokens, dim], and the pooler."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    from model_bundle.builders.graphs.bert import BertEncoder

    encoder = BertEncoder(source.config, source.weights, "test")
    states = encoder.encode(tf.constant(golden["ids"], tf.int32), tf.constant(golden["mask"], tf.int32))
    pooler = encoder.pool_first(states[-1]).numpy() if source.config.has_pooler else None
    return np.stack([state.numpy() for state in states]), pooler


def means_of(source: BertSource, texts: list[str]) -> np.ndarray:
    """Returns the mean of each text's token states, float32[texts, dim]."""
    from tokenizers import Tokenizer

    encode = Tokenizer.from_str(source.tokenizer_json).encode
    means = []
    for text in texts:
        ids = np.array([encode(text).ids])
        means.append(states_of(source, {"ids": ids, "mask": np.ones_like(ids)})[0][-1].mean(axis=1)[0])
    return np.stack(means)


def assert_golden(source: BertSource, model: str) -> None:
    golden = expected(model)
    states, pooler = states_of(source, golden)
    real = golden["mask"][np.newaxis, :, :, np.newaxis]
    np.testing.assert_allclose(states * real, golden["states"] * real, atol=TOLERANCE, rtol=0)
    assert (pooler is not None) == ("pooler" in golden)
    if pooler is not None:
        np.testing.assert_allclose(pooler, golden["pooler"], atol=TOLERANCE, rtol=0)


def assert_ids(tokenizer_json: str, model: str, tmp_path: Path) -> None:
    golden = expected(model)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json)
    prepared = SubwordInput(tmp_path / "tokenizer.json", None, 0).prepare(texts(golden))
    for index, mask in enumerate(golden["mask"]):
        found = prepared.ids[prepared.starts[index] : prepared.starts[index + 1]]
        assert found.tolist() == golden["ids"][index][: mask.sum()].tolist()


@pytest.mark.parametrize("model", MODELS)
def test_states_of_all_layers_and_ids_equal_pytorch(model: str, tmp_path: Path) -> None:
    source = read_bert_source(str(DATA_DIR / model), BertOptions()).source
    assert_golden(source, model)
    assert_ids(source.tokenizer_json, model, tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_every_other_format_of_the_same_weights_gives_the_same(name: str, tmp_path: Path) -> None:
    read = read_bert_source(str(FORMATS[name](tmp_path / "source")), BertOptions())
    assert_golden(read.source, "tiny_bert")
    assert_ids(read.source.tokenizer_json, "tiny_bert", tmp_path)
    plain = read_bert_source(str(DATA_DIR / "tiny_bert"), BertOptions()).source
    for key, value in plain.weights.items():
        np.testing.assert_array_equal(read.source.weights[key], value, err_msg=key)


def test_gelu_of_a_google_checkpoint_is_that_of_google_s_code(tmp_path: Path) -> None:
    folder = bert_formats.write_google(tmp_path / "source")
    exact = read_bert_source(str(folder), BertOptions())
    bert_formats.edit_json(folder / "bert_config.json", hidden_act="gelu")
    read = read_bert_source(str(folder), BertOptions())
    assert (exact.source.config.activation, read.source.config.activation) == ("gelu", "gelu_tanh")
    assert [note for note in read.notes if "tanh form" in note]
    assert not [note for note in exact.notes if "tanh form" in note]
    (states, _), (other, _) = (states_of(one.source, expected("tiny_bert")) for one in (read, exact))
    assert 1e-5 < np.abs(states - other).max() < 1e-2
    bert_formats.edit_json(folder / "bert_config.json", hidden_act=None)
    assert read_bert_source(str(folder), BertOptions()).source.config.activation == "gelu_tanh"


def test_xlm_roberta_as_transformers_saved_it_from_tensorflow() -> None:
    folder = shared_path("cases/models/xlmr_base")
    source = read_bert_source(str(folder), BertOptions()).source
    recorded = json.loads((folder / "expected.json").read_text())
    found = means_of(source, recorded["texts"])
    np.testing.assert_allclose(found, recorded["exp"], atol=TOLERANCE)


def test_heads_and_optimizer_state_are_named_as_left_out(tmp_path: Path) -> None:
    notes = read_bert_source(str(bert_formats.write_google(tmp_path / "source")), BertOptions()).notes
    heads = next(note for note in notes if note.startswith("left out: pre-training heads"))
    assert "cls/seq_relationship/kernel" in heads
    slots = next(note for note in notes if note.startswith("left out: optimizer state"))
    assert "global_step" in slots
    assert slots.count("adam_m") == len(bert_formats.stored_weights())
    assert any("lower-cased, because the vocabulary has no capital letters" in note for note in notes)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_of_the_weights_become_float32(dtype: str, tmp_path: Path) -> None:
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    weights = {name: value.astype(kind) for name, value in bert_formats.stored_weights().items()}
    read = read_bert_source(str(bert_formats.write_weights(tmp_path / "source", weights)), BertOptions())
    plain = read_bert_source(str(DATA_DIR / "tiny_bert"), BertOptions()).source.weights
    for key, value in read.source.weights.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, plain[key].astype(kind).astype(np.float32), err_msg=key)


def test_names_without_the_prefix_of_a_model_are_understood(tmp_path: Path) -> None:
    weights = {
        name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma"): value
        for name, value in bert_formats.stored_weights().items()
        if not name.startswith("cls.")
    }
    read = read_bert_source(str(bert_formats.write_weights(tmp_path / "source", weights)), BertOptions())
    assert_golden(read.source, "tiny_bert")
    assert not any(note.startswith("left out") for note in read.notes)


def test_files_that_transformers_saved_agree_whatever_their_format() -> None:
    root = shared_path("fixtures/keras_legacy/dev/004/seqclass_save_pretrained")
    read = [
        read_bert_source(str(root / name), BertOptions()).source
        for name in ("tf", "safetensors", "pt_safetensors")
    ]
    assert read[0].max_tokens == 64
    for key, value in read[0].weights.items():
        for other in read[1:]:
            np.testing.assert_array_equal(value, other.weights[key], err_msg=key)


@pytest.mark.parametrize(
    ("model", "own", "positions"),
    [("tiny_bert", 64, 64), ("tiny_distilbert", 512, 48), ("tiny_roberta", 128, 130 - 1 - 1)],
)
def test_the_limit_is_the_tokenizers_or_that_of_the_positions(
    model: str, own: int, positions: int, tmp_path: Path
) -> None:
    folder = bert_formats.copy_source(tmp_path / "source", DATA_DIR / model)
    for stated, expected_limit in (
        (own, min(own, positions)),
        (20, 20),
        (None, positions),
        (10**30, positions),
    ):
        bert_formats.edit_json(folder / "tokenizer_config.json", model_max_length=stated)
        assert read_bert_source(str(folder), BertOptions()).source.max_tokens == expected_limit


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_bare_vocabulary_tokenizes_as_transformers_does(lowercase: bool, tmp_path: Path) -> None:
    from transformers import BertTokenizer

    read = read_bert_source(
        str(bert_formats.write_google(tmp_path / "source")), BertOptions(lowercase=lowercase)
    )
    vocab = {
        token: i for i, token in enumerate((tmp_path / "source" / "vocab.txt").read_text().split("\n")[:-1])
    }
    reference = BertTokenizer(vocab=vocab, do_lower_case=lowercase)
    odd = ["", " ", "naïve CAFÉ", "北京", "[SEP] [PAD]", "a\u200bb\x00c", "x" * 101, "İstanbul ﬁne 🙂"]
    (tmp_path / "tokenizer.json").write_text(read.source.tokenizer_json)
    prepared = SubwordInput(tmp_path / "tokenizer.json", None, 0).prepare(odd)
    for index, text in enumerate(odd):
        found = prepared.ids[prepared.starts[index] : prepared.starts[index + 1]].tolist()
        assert found == reference(text)["input_ids"], text


def test_a_vocabulary_with_capitals_keeps_them(tmp_path: Path) -> None:
    folder = bert_formats.write_google(tmp_path / "source")
    vocab = (folder / "vocab.txt").read_text().replace("\nsentence\n", "\nSentence\n")
    (folder / "vocab.txt").write_text(vocab)
    read = read_bert_source(str(folder), BertOptions())
    assert read.source.lowercase is False
    assert any("kept, because the vocabulary has capital letters ('Sentence')" in note for note in read.notes)


def test_a_lower_casing_step_goes_before_all_others() -> None:
    from tokenizers import Tokenizer

    from model_bundle.builders.tokenizer import with_lowercase

    text = (DATA_DIR / "tiny_roberta" / "tokenizer.json").read_text()
    lowered = with_lowercase(SubwordTokenizer(text, 128, lowercase=False, vocab_size=268))
    before, after = Tokenizer.from_str(text), Tokenizer.from_str(lowered.json_text)
    assert lowered.lowercase
    assert after.encode("The CAT <pad>").ids == before.encode("the cat <pad>").ids
    assert after.encode("The CAT <pad>").ids != before.encode("The CAT <pad>").ids


@pytest.mark.parametrize("model", MODELS)
def test_a_built_bundle_encodes_as_pytorch_does(model: str, build_tiny: Callable[[str], ModelBundle]) -> None:
    golden = expected(model)
    real = golden["mask"][:, :, np.newaxis]
    mean = (golden["states"][-1] * real).sum(axis=1) / real.sum(axis=1)
    encoder = Encoder(build_tiny(model), max_batch_tokens=64)
    np.testing.assert_allclose(encoder.encode(texts(golden)), mean, atol=TOLERANCE, rtol=0)


def test_the_pooler_is_an_output(build_tiny: Callable[[str], ModelBundle]) -> None:
    golden = expected("tiny_bert")
    found = Encoder(build_tiny("tiny_bert"), pooling="pooler").encode(texts(golden))
    np.testing.assert_allclose(found, golden["pooler"], atol=TOLERANCE, rtol=0)


def test_a_source_is_recorded_with_the_digest_of_every_file_read(
    build_tiny: Callable[[str], ModelBundle],
) -> None:
    from model_bundle.bundle.digest import sha256_of

    source = build_tiny("tiny_bert").manifest.source
    assert (source.kind, source.location, source.revision) == ("huggingface", "tiny_bert", None)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= source.files.keys()
    for name, digest in source.files.items():
        assert sha256_of(DATA_DIR / "tiny_bert" / name) == digest
