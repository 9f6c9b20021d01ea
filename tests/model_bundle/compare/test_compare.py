"""Old vectors beside today's: the same are found to be, and one setting that differs is named."""

from __future__ import annotations

import csv
import json
import re
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_bundle.builders.bert.build import build_encoder_bundle
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling
from model_bundle.cli.compare import COMPARE
from model_bundle.cli.main import main
from model_bundle.compare.compare import RequestedSettings, compare
from model_bundle.compare.expected import Texts, align
from model_bundle.compare.read_files import read_expected, read_texts
from model_bundle.errors import SettingsError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from tests.conftest import DATA_DIR, shared_path
from tests.support.models.bert_formats import copy_source
from tests.support.models.tiny_elmo import build_long_words_elmo

Build = Callable[[str], ModelBundle]
TEXTS = [
    "the cat sat on the mat.",
    "Zürich and São Paulo: 3 Cities!",
    "It is ONE of many words",
    "an unbelievably long sentence of many words, which goes on and on, until it is over",
    "until it is over " * 12,
    "two cats and three mats, " * 5,
]


def explanations(bundle: ModelBundle, old: Any, texts: list[str] = TEXTS, **asked: Any) -> list[str]:
    """Compares, and gives the explanations, each as one line."""
    found = compare(bundle, texts, list(old), RequestedSettings(**asked))
    assert not found.is_same
    assert found.num_tried >= 1
    return [" and ".join(names) for names in found.explanations]


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The tiny BERT with a tokenizer that keeps capitals."""
    folder = copy_source(tmp_path_factory.mktemp("cased") / "s")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] |= {"lowercase": False}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    read = read_bert_source(str(folder), BertOptions())
    return build_encoder_bundle(read.source, folder.parent / "bundle")


@pytest.fixture(scope="module")
def elmos(tmp_path_factory: pytest.TempPathFactory, long_words_elmo: Path) -> dict[bool, Path]:
    """The same ELMo with boundaries and without."""
    without = build_long_words_elmo(tmp_path_factory.mktemp("elmo"), boundaries=False)
    return {True: long_words_elmo, False: without.path}


def test_the_same_vectors_are_the_same(build_tiny: Build) -> None:
    bundle = build_tiny("tiny_bert")
    old = Encoder(bundle).encode(TEXTS)
    for noise in (old, old.astype(np.float16)):
        found = compare(bundle, TEXTS, list(noise))
        assert found.is_same
        assert found.distances.cosine.min() > 0.9999
    worse = old.copy()
    worse[3] = -worse[3]
    found = compare(bundle, TEXTS, list(worse))
    assert found.distances.same.tolist() == [True, True, True, False, True, True]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"pooling": "first"}, "--pooling first"),
        pytest.param({"pooling": "max"}, "--pooling max", marks=pytest.mark.slow),
        pytest.param({"pooling": "pooler"}, "--pooling pooler", marks=pytest.mark.slow),
        ({"layers": ("1",)}, "--layer 1"),
        pytest.param({"layers": ("0",)}, "--layer 0", marks=pytest.mark.slow),
        ({"normalize": True}, "vectors scaled to length 1 (build with --normalize yes)"),
        ({"max_tokens": 16}, "--max_tokens 16"),
        pytest.param({"max_tokens": 37}, "--max_tokens 37", marks=pytest.mark.slow),
        ({"max_tokens": 5}, ""),
        pytest.param(
            {"pooling": "last", "max_tokens": 21},
            "--pooling last and --max_tokens 21",
            marks=pytest.mark.slow,
        ),
        (
            {"layers": ("1",), "pooling": "first", "normalize": True},
            "--layer 1 and --pooling first and vectors",
        ),
    ],
)
def test_settings_of_a_bert_are_named(settings: dict[str, Any], name: str, build_tiny: Build) -> None:
    bundle = build_tiny("tiny_bert")
    found = explanations(bundle, Encoder(bundle, **settings).encode(TEXTS))
    if settings == {"max_tokens": 5}:
        assert found == []  # below all limits that people set; nothing else explains it
    else:
        assert found[0].startswith(name)
        assert found[0].count(" and ") == name.count(" and ")


def test_one_limit_below_all_texts_is_named(build_tiny: Build) -> None:
    bundle, texts = build_tiny("tiny_bert"), [text * 4 for text in TEXTS]
    assert explanations(bundle, Encoder(bundle, max_tokens=16).encode(texts), texts)[0] == "--max_tokens 16"


@pytest.mark.slow
def test_a_limit_above_the_bundles_says_to_build_again(build_tiny: Build, tmp_path: Path) -> None:
    read = read_bert_source(str(DATA_DIR / "tiny_bert"), BertOptions(max_tokens=32))
    short = build_encoder_bundle(read.source, tmp_path / "short")
    found = explanations(short, Encoder(build_tiny("tiny_bert"), max_tokens=48).encode(TEXTS))
    assert found[0] == "--max_tokens 48 (the bundle was built with 32: build it again)"


def test_casing_is_named(build_tiny: Build, cased: ModelBundle) -> None:
    uncased = build_tiny("tiny_bert")
    kept = Encoder(cased).encode(TEXTS)
    assert explanations(uncased, kept)[0] == "casing kept (a tokenizer that keeps capitals)"
    lowered = Encoder(cased).encode([text.lower() for text in TEXTS])
    assert explanations(cased, lowered)[0] == "text lower-cased first"
    assert len(explanations(uncased, kept + 1)) == 0


def test_what_was_asked_is_not_named_again(build_tiny: Build) -> None:
    bundle = build_tiny("tiny_bert")
    old = Encoder(bundle, layers=("1",), pooling="first").encode(TEXTS)
    assert compare(bundle, TEXTS, list(old), RequestedSettings(layer="1", pooling=Pooling.FIRST)).is_same
    assert explanations(bundle, old, layer="1") == ["--pooling first"]


# A BERT is compared each time; an ELMo takes long to build.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("built", "rows"),
    [
        (False, "word"),
        (True, "document"),
        (True, "word"),
        (False, "document"),
    ],
)
def test_boundaries_of_elmo_are_named(
    built: bool, rows: str, elmos: dict[bool, Path], open_encoder: Callable[..., Encoder]
) -> None:
    texts = ["The cat sat on the mat .", "a b", "One word"]
    encoder = open_encoder(elmos[not built], rows=rows)
    old = [encoder.encode([text]) for text in texts]
    expected = [vectors[0] for vectors in old] if rows == "document" else old
    found = explanations(ModelBundle.open(elmos[built]), expected, texts)
    how = "without --no_boundaries" if not built else "with --no_boundaries"
    assert found[0].endswith(f"boundaries (build elmo {how})")
    assert " and " not in found[0]


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["lstm_outputs1", "word_emb", "lstm_outputs2"])
def test_layers_and_words_of_elmo_are_named(
    layer: str, long_words_elmo: Path, open_encoder: Callable[..., Encoder]
) -> None:
    texts = ["The cat's mat .", "a b", "One (1) word"]
    encoder = open_encoder(long_words_elmo, layers=(layer,), rows="word")
    old = [encoder.encode([text]) for text in texts]
    assert explanations(ModelBundle.open(long_words_elmo), old, texts)[0] == f"--layer {layer}"


def test_words_of_a_bert_are_compared(build_tiny: Build) -> None:
    bundle = build_tiny("tiny_bert")
    encoder = Encoder(bundle, rows="word", layers=("1",))
    old = [encoder.encode([text]) for text in TEXTS]
    assert compare(bundle, TEXTS, old, RequestedSettings(layer="1")).is_same
    assert explanations(bundle, old)[0] == "--layer 1"


@pytest.mark.parametrize(
    "model",
    [
        "tiny_distilbert_mood",
        pytest.param("tiny_bert_rating", marks=pytest.mark.slow),
        pytest.param("tiny_bert_entities", marks=pytest.mark.slow),
    ],
)
def test_scores_and_logits_of_a_classifier_are_compared(model: str, build_head: Build) -> None:
    bundle = build_head(model)
    texts = [text[:40] for text in TEXTS]
    found = Classifier(bundle).classify(texts)
    starts = np.searchsorted(found.row_texts, np.arange(1, len(texts)))
    old = [np.split(array, starts) for array in (found.scores, found.logits)]
    if found.words is None:
        old = [[rows[0] for rows in array] for array in old]
    assert compare(bundle, texts, old[0]).is_same
    if model != "tiny_bert_rating":
        assert explanations(bundle, old[1], texts)[0].startswith("logits")


def write_jsonl(path: Path, vectors: np.ndarray, ids: list[str]) -> None:
    rows = ({"id": name, "embedding": vector.tolist()} for name, vector in zip(ids, vectors, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_allennlp(path: Path, vectors: np.ndarray) -> None:
    """As AllenNLP's command: an array for each line, by its number."""
    with h5py.File(path, "w") as file:
        for index, vector in enumerate(vectors):
            file[str(index)] = vector
        file["sentence_to_index"] = json.dumps({"a": "0"})


def write_hdf5(path: Path, vectors: np.ndarray, ids: list[str]) -> None:
    with h5py.File(path, "w") as file:
        file["embeddings"] = vectors
        file["ids"] = ids


WITH_IDS: dict[str, Callable[[Path, np.ndarray, list[str]], Any]] = {
    "a.npz": lambda path, vectors, ids: np.savez(path, vectors=vectors, ids=np.array(ids)),
    "b.npz": lambda path, vectors, ids: np.savez(path, **dict(zip(ids, vectors, strict=True))),
    "a.jsonl": write_jsonl,
    "a.parquet": lambda path, vectors, ids: pq.write_table(
        pa.table({"doc_id": ids, "embedding": vectors.tolist()}), path
    ),
    "b.h5": write_hdf5,
}
IN_ORDER: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "a.npy": np.save,
    "b.jsonl": lambda path, vectors: path.write_text(
        "".join(json.dumps(vector.tolist()) + "\n" for vector in vectors)
    ),
    "a.hdf5": write_allennlp,
}


@pytest.mark.parametrize("name", [*WITH_IDS, *IN_ORDER])
def test_files_of_old_vectors_are_read(name: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(7).normal(size=(12, 4)).astype(np.float32)
    ids = [f"n{index}" for index in range(12)]
    if name in WITH_IDS:
        WITH_IDS[name](tmp_path / name, vectors, ids)
    else:
        IN_ORDER[name](tmp_path / name, vectors)
    old = read_expected(tmp_path / name)
    assert (old.ids is not None) == (name in WITH_IDS)
    np.testing.assert_array_equal(np.stack(old.vectors or []), vectors)
    shuffled = [*range(11, -1, -1)] if old.ids else [*range(12)]
    texts = Texts([f"text {index}" for index in shuffled], [ids[index] for index in shuffled])
    _, names, paired = align(texts, old)
    np.testing.assert_array_equal(np.stack(paired.vectors or []), vectors[shuffled])
    assert names == texts.ids


@pytest.mark.slow
def test_a_model_that_takes_numbers_gets_them_from_the_table(tmp_path: Path) -> None:
    """An old classifier of text and numbers, against the scores of its own stack."""
    folder = shared_path("fixtures/keras_legacy/dev/004/example2_numerical_features")
    names = [f"f{index}" for index in range(10)]
    case = json.loads((folder / "expected.json").read_text())["cases"][0]
    numbers = np.array(case["inputs"]["numerical_features"])
    rows = [
        {"text": text, **dict(zip(names, row.tolist(), strict=True))}
        for text, row in zip(case["texts"], numbers, strict=True)
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(tmp_path / "old.npy", np.array(case["outputs"]["output"]))
    flags = ["--texts", str(tmp_path / "texts.jsonl"), "--expected", str(tmp_path / "old.npy")]
    command = ["build", "keras", str(folder / "my_bert_classifier_keras")]
    command += [
        "--output",
        str(tmp_path / "bundle"),
        "--extra_input",
        f"numerical_features={','.join(names)}",
    ]
    assert main([*command, *flags]) == 0
    assert main(["compare", str(tmp_path / "bundle"), *flags]) == 0
    np.save(tmp_path / "old.npy", 1 - np.array(case["outputs"]["output"]))
    assert main(["compare", str(tmp_path / "bundle"), *flags]) == 1
    for row in rows:
        del row["f3"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["compare", str(tmp_path / "bundle"), *flags]) == 2


def test_files_of_texts_are_read(tmp_path: Path) -> None:
    texts = ["a, b", "line\u2028separator", 'quote "']
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts))
    )
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    pq.write_table(pa.table({"id": [0, 1, 2], "text": texts}), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
    for name, ids in (
        ("a.txt", None),
        ("a.jsonl", True),
        ("b.jsonl", None),
        ("a.parquet", True),
        ("a.csv", True),
    ):
        read = read_texts(tmp_path / name)
        assert (read.texts, read.ids) == (texts, ["0", "1", "2"] if ids else None)


def test_what_does_not_pair_up_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    old = read_expected(tmp_path / "a.npy")
    with pytest.raises(SettingsError, match="3 texts and 2 vectors"):
        align(Texts(["a", "b", "c"], None), old)
    with_ids = type(old)(old.vectors, ["x", "y"])
    with pytest.raises(SettingsError, match=r'The ids \["z", "y"\] are in one of'):
        align(Texts(["a", "b"], ["x", "z"]), with_ids)
    with pytest.raises(SettingsError, match=r'--texts: the ids \["x"\] occur more than once'):
        align(Texts(["a", "b"], ["x", "x"]), with_ids)
    np.savez(tmp_path / "l.npz", a=np.ones((2, 3, 4, 5)))
    with pytest.raises(SettingsError, match="choose a layer with --expected_layer 0 to 2"):
        read_expected(tmp_path / "l.npz")
    assert (read_expected(tmp_path / "l.npz", 1).vectors or [])[0].shape == (4, 5)
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(SettingsError, match="cannot be read as vectors"):
        read_expected(tmp_path / "o.npy")
    (tmp_path / "a.bin").touch()
    with pytest.raises(SettingsError, match=r"expected \.npz"):
        read_expected(tmp_path / "a.bin")
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(SettingsError, match="expected a column named embedding"):
        read_expected(tmp_path / "a.jsonl")
    with pytest.raises(SettingsError, match='expected a column "text"'):
        read_texts(tmp_path / "a.jsonl")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_texts(tmp_path / "absent.txt")


def test_every_flag_is_on_the_page() -> None:
    page = (DATA_DIR.parents[1] / "docs" / "how-to" / "compare.md").read_text(encoding="utf-8")
    parser = ArgumentParser()
    COMPARE.add_flags(parser)
    flags = {option for action in parser._actions for option in action.option_strings}
    assert set(re.findall(r"^\| `(--\w+)", page.partition("## Flags")[2], re.MULTILINE)) == flags - {
        "-h",
        "--help",
    }


def test_the_command_prints_and_ends_with_1_on_a_difference(
    tmp_path: Path, build_tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = build_tiny("tiny_bert")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    np.save(tmp_path / "old.npy", Encoder(bundle, pooling="first").encode(TEXTS))
    command = ["compare", str(bundle.path), "--texts", str(tmp_path / "texts.txt")]
    command += ["--expected", str(tmp_path / "old.npy")]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert f"NOT the same: {len(TEXTS)} of {len(TEXTS)}" in printed
    assert "  --pooling first\n" in printed
    assert "the cat sat on the mat." in printed
    assert main([*command, "--pooling", "first"]) == 0
    assert f"the same    {len(TEXTS)} of {len(TEXTS)}" in capsys.readouterr().out
    np.save(tmp_path / "old.npy", np.ones((len(TEXTS), 7)))
    assert main(command) == 2
    assert "--expected has 7 numbers per vector; the bundle tiny_bert has 32." in capsys.readouterr().err
    np.save(tmp_path / "old.npy", np.ones((2, 7)))
    assert main(command) == 2
    assert "6 texts and 2 vectors" in capsys.readouterr().err
