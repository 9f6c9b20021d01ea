"""Old scores and labels beside a classifier's: every form of file has the same verdict, a flip is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.cli.main import main
from model_bundle.compare.classes import agreement, expected_classes
from model_bundle.compare.compare import compare
from model_bundle.compare.expected import Columns, Expected, align
from model_bundle.compare.read_files import read_expected, read_texts
from model_bundle.errors import SettingsError
from model_bundle.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
Build = Callable[[str], ModelBundle]
TEXTS = ["the cat sat on the mat.", "Zürich and São Paulo: 3 Cities!", "It is ONE of many words", "until"]


@dataclass(frozen=True)
class Form:
    """One way to store scores: the file, and the flags that name its columns."""

    name: str
    write: Callable[[Path, np.ndarray, list[str]], object]
    flags: tuple[str, ...] = ()


def write_csv(path: Path, columns: dict[str, list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def write_h5(path: Path, scores: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["scores"] = scores


def write_run(path: Path, scores: np.ndarray, labels: list[str]) -> None:
    """Two files as beam_jobs.classify writes them, rows in another order."""
    (path / "classes").mkdir(parents=True)
    order = np.arange(len(scores))[::-1]
    pairs = np.stack([1 - scores, scores], axis=1)
    table = pa.table(
        {
            "doc_id": [f"t{index}" for index in order],
            "label": [labels[index] for index in order],
            "scores": pairs[order].tolist(),
        }
    ).replace_schema_metadata({"beam_jobs.labels": '["bad", "good"]', "beam_jobs.threshold": "none"})
    half = len(scores) // 2
    for part, rows in enumerate((table[:half], table[half:])):
        pq.write_table(rows, path / "classes" / f"classes-{part}.parquet")


def write_best(path: Path, scores: np.ndarray, labels: list[str]) -> None:
    """The best label of each text with its score alone, as with --top_k 1."""
    path.mkdir()
    best = np.maximum(scores, 1 - scores)
    table = pa.table(
        {
            "doc_id": [f"t{index}" for index in range(len(scores))],
            "label": labels,
            "top_labels": [[label] for label in labels],
            "top_scores": [[score] for score in best.tolist()],
        }
    ).replace_schema_metadata({"beam_jobs.labels": '["bad", "good"]'})
    pq.write_table(table, path / "classes.parquet")


def both(scores: np.ndarray) -> np.ndarray:
    return np.stack([1 - scores, scores], axis=1)


# Scores are those of the label "good"; "bad" has the rest.
FORMS = (
    Form("a.npy", lambda path, scores, _: np.save(path, scores)),
    Form("b.npy", lambda path, scores, _: np.save(path, scores[:, np.newaxis])),
    Form("c.npy", lambda path, scores, _: np.save(path, both(scores))),
    Form("a.npz", lambda path, scores, _: np.savez(path, scores=scores)),
    Form("a.h5", lambda path, scores, _: write_h5(path, scores)),
    Form("a.jsonl", lambda path, scores, _: path.write_text("".join(f"{s!r}\n" for s in scores.tolist()))),
    Form(
        "b.jsonl",
        lambda path, scores, labels: path.write_text(
            "".join(
                json.dumps({"id": f"t{i}", "score": s, "label": label}) + "\n"
                for i, (s, label) in enumerate(zip(scores.tolist(), labels, strict=True))
            )
        ),
    ),
    Form(
        "a.csv",
        lambda path, scores, labels: write_csv(path, {"p": scores.tolist(), "y": list(labels)}),
        ("--score_column", "p", "--label_column", "y"),
    ),
    Form(
        "b.csv",
        lambda path, scores, _: write_csv(path, {"good": scores.tolist(), "bad": (1 - scores).tolist()}),
        ("--score_column", "good,bad"),
    ),
    Form(
        "a.tsv",
        lambda path, scores, _: path.write_text("s\n" + "".join(f"{[1 - s, s]}\n" for s in scores.tolist())),
        ("--score_column", "s"),
    ),
    Form(
        "a.parquet",
        lambda path, scores, _: pq.write_table(pa.table({"scores": both(scores).tolist()}), path),
    ),
    Form("run", write_run),
    Form("best", write_best),
)
LABEL_FORMS = (
    Form("l.npy", lambda path, _, labels: np.save(path, np.array(labels))),
    Form("i.npy", lambda path, _, labels: np.save(path, np.array([label == "good" for label in labels]))),
    Form("l.csv", lambda path, _, labels: write_csv(path, {"label": list(labels)})),
    Form(
        "l.jsonl",
        lambda path, _, labels: path.write_text("".join(f"{int(label == 'good')}\n" for label in labels)),
    ),
)


@pytest.fixture(scope="module")
def two_labels(build_head: Build) -> BundleManifest:
    """A manifest with one output, a sigmoid, for the labels "bad" and "good"."""
    manifest = build_head("tiny_distilbert_mood").manifest
    logits = manifest.outputs["logits"].model_copy(update={"dim": 1})
    outputs = {**manifest.outputs, "logits": logits}
    return manifest.model_copy(
        update={"outputs": outputs, "labels": ("bad", "good"), "scores": "sigmoid", "multi_label": False}
    )


def column_names(flags: tuple[str, ...]) -> Columns:
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    score = given.get("--score_column")
    return Columns(score=tuple(score.split(",")) if score else (), label=given.get("--label_column"))


@pytest.mark.parametrize("form", [*FORMS, *LABEL_FORMS], ids=lambda form: form.name)
def test_every_form_of_scores_has_the_same_verdict(
    form: Form, two_labels: BundleManifest, tmp_path: Path
) -> None:
    scores = np.random.default_rng(3).uniform(size=40)
    labels = ["good" if score > 0.5 else "bad" for score in scores]
    form.write(tmp_path / form.name, scores, labels)
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"id": f"t{index}", "text": "a"}) + "\n" for index in range(40))
    )
    old = read_expected(tmp_path / form.name, columns=column_names(form.flags))
    _, _, paired = align(read_texts(tmp_path / "texts.jsonl"), old)
    wanted = expected_classes(paired, two_labels)
    has_scores = form in FORMS
    assert (wanted.scores is not None) == has_scores

    def compared(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        result = agreement(list(both(found)), wanted, two_labels, None, 1e-4)
        return result.same, result.is_same_label

    same, same_label = compared(scores)
    assert same.all()
    flipped = scores.copy()
    flipped[7] = 1 - flipped[7]
    same, same_label = compared(flipped)
    assert np.flatnonzero(~same_label).tolist() == np.flatnonzero(~same).tolist() == [7]
    near = scores.copy()
    near[5] += 0.0095 if near[5] < 0.5 and near[5] + 0.0095 < 0.5 else -0.0095 if near[5] > 0.51 else 0.005
    same, same_label = compared(near)
    assert np.flatnonzero(~same).tolist() == ([5] if has_scores else [])
    assert same_label.all()


@given(scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), place=st.integers(0, 19))
def test_a_label_counts_even_where_scores_are_near(
    scores: list[float], place: int, two_labels: BundleManifest
) -> None:
    """A flip is never the same, however small the difference of scores; equal scores never differ."""
    old = np.array(scores, np.float64)
    wanted = expected_classes(Expected(list(both(old)), None), two_labels)
    assert agreement(list(both(old)), wanted, two_labels, None, 1e-4).same.all()
    changed = both(old)
    changed[place % len(old)] = changed[place % len(old)][::-1]
    result = agreement(list(changed), wanted, two_labels, None, 1e-4)
    is_tie = old[place % len(old)] == 0.5
    assert result.is_same_label[place % len(old)] == is_tie
    assert result.same[place % len(old)] == is_tie


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((4, 3)), "has 3 numbers per text; the classifier .* has 2 scores, of 'bad', 'good'"),
        (
            np.array(["good", "bad", "ugly", "bad"]),
            "has the label 'ugly'; expected one of the bundle's labels",
        ),
        (np.array([0.1, np.nan, 0.3, 0.4]), "missing or not finite"),
        (np.array(0.5), "a single value; expected one per text"),
    ],
)
def test_what_does_not_fit_is_refused(
    scores: np.ndarray, message: str, two_labels: BundleManifest, tmp_path: Path
) -> None:
    np.save(tmp_path / "old.npy", scores)
    bundle = ModelBundle(tmp_path, two_labels, "0" * 64)
    with pytest.raises(SettingsError, match=message):
        compare(bundle, TEXTS, read_expected(tmp_path / "old.npy"))


def test_a_flip_is_named_and_ends_with_1(
    build_head: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = build_head("tiny_distilbert_mood")
    found = Classifier(bundle).classify(TEXTS)
    rows = {
        "body": list(TEXTS),
        "key": [f"k{index}" for index in range(4)],
        **{f"p_{name}": found.scores[:, index].tolist() for index, name in enumerate(found.names)},
        "y": list(found.labels),
    }
    table = tmp_path / "scores_2019.csv"
    command = [
        "compare",
        str(bundle.path),
        "--texts",
        str(table),
        "--text_column",
        "body",
        "--id_column",
        "key",
    ]
    scores = ["--score_column", ",".join(f"p_{name}" for name in found.names)]
    write_csv(table, rows)
    assert main([*command, *scores, "--label_column", "y"]) == 0
    printed = capsys.readouterr().out
    assert "labels      the same for 4 of 4" in printed
    assert "the same    4 of 4" in printed
    other = next(name for name in found.names if name != found.labels[2])
    write_csv(table, {**rows, "y": [*found.labels[:2], other, found.labels[3]]})
    assert main([*command, "--label_column", "y"]) == 1
    printed = capsys.readouterr().out
    assert f"  k2: was {other}, is {found.labels[2]}: {TEXTS[2]!r}" in printed
    assert main([*command, *scores]) == 0
    for flags, message in (
        (["--score_column", "p"], "has no column 'p'; it has body, key"),
        ([], "must be given together"),
        (["--label_column", "y", "--text_column", "text"], "Name another with --text_column"),
        (["--label_column", "y", "--id_column", "no"], "has no column 'no'"),
    ):
        assert main([*command, *flags]) == 2
        assert message in capsys.readouterr().err


def test_logits_are_recognised(build_head: Build) -> None:
    bundle = build_head("tiny_distilbert_mood")
    found = Classifier(bundle).classify(TEXTS)
    result = compare(bundle, TEXTS, list(found.logits))
    assert not result.is_same
    assert any("logits" in name for names in result.explanations for name in names)


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], np.ndarray]:
    """An old model with one sigmoid output: its bundle, 5,000 texts, and the scores it had."""
    folder = tmp_path_factory.mktemp("sigmoid")
    rng = np.random.default_rng(11)
    words = [f"word{index}" for index in range(300)]
    texts = [" ".join(rng.choice(words, size=rng.integers(3, 12))) for _ in range(5_000)]
    keras.utils.set_random_seed(5)
    split = keras.layers.TextVectorization(vocabulary=words, output_sequence_length=12)
    layers = [
        keras.Input((), dtype="string", name="text"),
        split,
        keras.layers.Embedding(302, 16, embeddings_initializer=keras.initializers.RandomNormal(stddev=2.0)),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential(layers)
    scores = model(tf.constant(texts)).numpy()[:, 0]
    model.save(folder / "old.keras")
    (folder / "labels.txt").write_text("bad\ngood\n")
    command = ["build", "keras", str(folder / "old.keras"), "--labels", str(folder / "labels.txt")]
    assert main([*command, "--output", str(folder / "bundle")]) == 0
    return folder / "bundle", texts, scores


@pytest.mark.slow
@pytest.mark.parametrize("form", [*FORMS, *LABEL_FORMS], ids=lambda form: form.name)
def test_5000_scores_of_a_sigmoid_model(
    form: Form,
    sigmoid: tuple[Path, list[str], np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, texts, scores = sigmoid
    with (tmp_path / "texts.jsonl").open("w") as file:
        file.writelines(
            json.dumps({"id": f"t{index}", "text": text}) + "\n" for index, text in enumerate(texts)
        )
    labels = ["good" if score > 0.5 else "bad" for score in scores]
    assert 0 < labels.count("good") < len(labels)
    old = tmp_path / form.name
    command = ["compare", str(bundle), "--texts", str(tmp_path / "texts.jsonl"), "--expected", str(old)]
    form.write(old, scores.astype(np.float64), labels)
    assert main([*command, *form.flags]) == 0
    assert "labels      the same for 5,000 of 5,000" in capsys.readouterr().out
    place = int(np.argmax(np.abs(scores - 0.5)))
    changed = scores.astype(np.float64)
    changed[place] = 1 - changed[place]
    labels[place] = "good" if labels[place] == "bad" else "bad"
    if old.is_dir():
        old = tmp_path / "again"
        command[-1] = str(old)
    form.write(old, changed, labels)
    assert main([*command, *form.flags]) == 1
    printed = capsys.readouterr().out
    assert "labels      the same for 4,999 of 5,000" in printed
    assert (
        f"  t{place}: was {labels[place]}, is " in printed
        or f"  {place}: was {labels[place]}, is " in printed
    )


def test_thresholds_of_several_labels_are_the_references(two_labels: BundleManifest) -> None:
    """With several labels per text, a run's own threshold decides which ones its scores assign."""
    manifest = two_labels.model_copy(
        update={
            "multi_label": True,
            "outputs": {"logits": two_labels.outputs["logits"].model_copy(update={"dim": 2})},
        }
    )
    scores = [np.array([0.3, 0.6]), np.array([0.1, 0.9])]
    wanted = expected_classes(Expected(scores, None, threshold=0.25), manifest)
    assert wanted.labels == [[("bad", "good")], [("good",)]]
    assert agreement(scores, wanted, manifest, 0.25, 1e-4).same.all()
    assert agreement(scores, wanted, manifest, None, 1e-4).is_same_label.tolist() == [False, True]
    every = expected_classes(Expected(scores, None, threshold=0.0), manifest)
    assert every.labels == [[("bad", "good")]] * 2  # 0 is a threshold, not the lack of one
    assert agreement(scores, every, manifest, 0.0, 1e-4).same.all()


def test_positions_are_not_mixed_with_names_that_are_numbers(two_labels: BundleManifest) -> None:
    stars = two_labels.model_copy(update={"labels": ("1", "2")})
    named = expected_classes(Expected(None, None, labels=[[("1",)], [("2",)]]), stars)
    assert named.labels == [[("1",)], [("2",)]]
    with pytest.raises(
        SettingsError, match=r"has the label '0'; expected one of the bundle's labels '1', '2'\."
    ):
        expected_classes(Expected(None, None, labels=[[("0",)], [("1",)]]), stars)
