"""Classifiers from every format, against what PyTorch and the original TensorFlow gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_bundle.builders.bert.build import BertSource
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, ReadBert, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling, Precision
from model_bundle.cli.main import main
from model_bundle.errors import GoldenMismatchError, SettingsError, SourceError, WeightsMismatchError
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.golden import Golden
from model_bundle.runtime.request import EncodeRequest
from tests.conftest import DATA_DIR, shared_path
from tests.support.models import heads
from tests.support.models.bert_formats import copy_source, edit_json

TOLERANCE = 1e-5
LEGACY = "fixtures/keras_legacy/dev/004"


def read(folder: Path, **options: Any) -> ReadBert:
    return read_bert_source(str(folder), BertOptions(head=HeadOptions(**options)))


def refused(folder: Path, message: str, **options: Any) -> SourceError:
    with pytest.raises(SourceError, match=message) as raised:
        read(folder, **options)
    return raised.value


def run_graph(source: BertSource, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs the graph: logits, and what the classifier stands on."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    from model_bundle.builders.graphs.bert import BertEncoder

    encoder = BertEncoder(source.config, source.weights, "test")
    states = encoder.encode(tf.constant(ids, tf.int32), tf.constant(mask, tf.int32))[-1]
    below = states if source.config.labels_per_token else encoder.pool_first(states)
    return encoder.classify(below).numpy(), below.numpy()


@pytest.mark.parametrize("model", heads.MODELS)
def test_logits_equal_pytorch(model: str) -> None:
    golden = heads.expected(model)
    source = read(DATA_DIR / model).source
    logits, below = run_graph(source, golden.arrays["ids"], golden.arrays["mask"])
    real = golden.arrays["mask"] if logits.ndim == 3 else np.ones(len(logits), dtype=int)
    np.testing.assert_allclose(logits[real > 0], golden.arrays["logits"][real > 0], atol=TOLERANCE, rtol=0)
    if logits.ndim == 2:
        np.testing.assert_allclose(below, golden.arrays["below"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("model", "labels", "multi_label", "regression", "scores"),
    [
        ("tiny_distilbert_mood", ("bad", "so-so", "good"), False, False, "softmax"),
        ("tiny_roberta_topics", ("sport", "trade", "science"), True, False, "sigmoid"),
        ("tiny_bert_rating", ("rating",), False, True, "as_is"),
        ("tiny_bert_entities", ("O", "B-PLACE", "I-PLACE", "B-NUMBER"), False, False, "softmax"),
    ],
)
def test_the_manifest_says_what_the_configuration_says(
    model: str, labels: tuple[str, ...], multi_label: bool, regression: bool, scores: str,
    build_head: Callable[[str], ModelBundle],
) -> None:  # fmt: skip
    manifest = build_head(model).manifest
    assert manifest.task == "classify"
    assert (manifest.labels, manifest.multi_label) == (labels, multi_label)
    assert (manifest.regression, manifest.scores) == (regression, scores)
    logits = manifest.outputs[manifest.default_output]
    assert (logits.kind, logits.dim, logits.per_token) == ("class", len(labels), "entities" in model)


@pytest.mark.parametrize(
    "folder", [f"seqclass_save_pretrained/{name}" for name in ("tf", "safetensors", "pt_safetensors")]
    + ["tf23_seqclass_save_pretrained/tf"],
)  # fmt: skip
def test_classifiers_that_transformers_saved_give_their_logits(folder: str) -> None:
    root = shared_path(LEGACY)
    source = read(root / folder).source
    assert source.head is not None
    assert source.head.labels == ("LABEL_0", "LABEL_1")
    cases = json.loads((root / folder).parent.joinpath("expected.json").read_text())["cases"]
    checked = 0
    for case in cases:
        ids = np.array(case["inputs"]["input_ids"])
        if np.any(case["inputs"].get("token_type_ids", 0)):
            continue  # two texts at once, which a bundle does not take
        logits, _ = run_graph(source, ids, np.array(case["inputs"]["attention_mask"]))
        np.testing.assert_allclose(logits, case["outputs"]["logits"], atol=1e-5, rtol=0)
        checked += 1
    assert checked >= 8


def tensorflow_names(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A head's weights as Keras names them, the layer's name twice."""
    made = {}
    for name, value in weights.items():
        part, _, last = name.rpartition(".")
        path = f"{part.split('.')[0]}/tf_model/{part.replace('.', '/')}"
        made[f"{path}/{'kernel' if last == 'weight' else last}:0"] = value.T if last == "weight" else value
    return made


@pytest.mark.parametrize("model", ["tiny_distilbert_mood", "tiny_roberta_topics"])
def test_heads_under_keras_names_are_the_same(model: str, tmp_path: Path) -> None:
    weights = load_file(DATA_DIR / model / "model.safetensors")
    head = {name: weights.pop(name) for name in list(weights) if "classifier" in name}
    copy_source(tmp_path / "s", DATA_DIR / model, without=("model.safetensors",))
    renamed = {name: np.ascontiguousarray(value) for name, value in tensorflow_names(head).items()}
    save_file(weights | renamed, tmp_path / "s" / "model.safetensors")
    for name, value in read(DATA_DIR / model).source.weights.items():
        np.testing.assert_array_equal(read(tmp_path / "s").source.weights[name], value, err_msg=name)


def test_a_checkpoint_of_google_is_a_classifier_of_texts(tmp_path: Path) -> None:
    """``run_classifier.py`` stores the last matrix as [labels, dim], under names of its own."""
    weights = load_file(DATA_DIR / "tiny_bert_rating" / "model.safetensors")
    weights["output_weights"] = np.ascontiguousarray(weights.pop("classifier.weight"))
    weights["output_bias"] = weights.pop("classifier.bias")
    copy_source(tmp_path / "s", DATA_DIR / "tiny_bert_rating", without=("model.safetensors",))
    save_file(weights, tmp_path / "s" / "model.safetensors")
    (tmp_path / "s" / "config.json").rename(tmp_path / "s" / "bert_config.json")
    found = read(tmp_path / "s").source
    for name, value in read(DATA_DIR / "tiny_bert_rating").source.weights.items():
        np.testing.assert_array_equal(found.weights[name], value, err_msg=name)


def test_labels_and_several_of_them_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("schlecht\nso, so\ngut\n", encoding="utf-8")
    head = read(
        DATA_DIR / "tiny_distilbert_mood", labels=tmp_path / "labels.txt", multi_label=True
    ).source.head
    assert head is not None
    assert head.labels == ("schlecht", "so, so", "gut")
    assert (head.multi_label, head.scores) == (True, "sigmoid")
    single = read(DATA_DIR / "tiny_roberta_topics", multi_label=False).source.head
    assert single is not None
    assert (single.multi_label, single.scores) == (False, "softmax")


def test_one_label_without_a_problem_type_is_a_quantity(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s", DATA_DIR / "tiny_bert_rating")
    edit_json(folder / "config.json", problem_type=None, id2label=None)
    head = read(folder).source.head
    assert head is not None
    assert (head.labels, head.regression, head.scores) == (("LABEL_0",), True, "as_is")


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s", DATA_DIR / "tiny_distilbert_mood")
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    refused(folder, "names 2 labels, the classifier has 3", labels=labels)
    for number in (10**9, "many"):  # nothing is made in its size
        edit_json(folder / "config.json", id2label=None, num_labels=number)
        refused(folder, f"names {number} labels, the classifier has 3")
    labels.write_text("a\n\nb\n")
    refused(folder, "line 2 is empty", labels=labels)
    labels.write_text("a\nb\na\n")
    refused(folder, r"\['a'\] are repeated", labels=labels)
    refused(folder, "cannot be read", labels=tmp_path / "absent.txt")
    edit_json(folder / "config.json", id2label={"0": "a", "2": "b", "1": "c", "4": "d"})
    refused(folder, "expected 0 to 3")
    edit_json(folder / "config.json", id2label={"one": "a"})
    refused(folder, "must map numbers to names")


def test_what_is_no_classifier_is_told(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "bert")
    refused(folder, "expected one that ends in ForSequenceClassification")
    edit_json(folder / "config.json", architectures=["BertForSequenceClassification"])
    refused(folder, "contain no classifier")
    edit_json(folder / "config.json", architectures=["BertForQuestionAnswering"])
    refused(folder, "Other heads cannot be built")
    entities = copy_source(tmp_path / "entities", DATA_DIR / "tiny_bert_entities")
    refused(entities, "gives each exactly one label", multi_label=True)
    edit_json(entities / "config.json", architectures=None)
    refused(entities, "expected one that ends in")
    edit_json(entities / "config.json", architectures=["BertForSequenceClassification"])
    error = refused(entities, "do not fit the model")
    assert isinstance(error, WeightsMismatchError)
    assert error.missing == ("pooler/kernel", "pooler/bias")


def test_a_sentence_transformers_folder_is_no_classifier(tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "s")
    (folder / "modules.json").write_text(
        '[{"type": "sentence_transformers.models.Transformer", "path": ""},'
        '{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]'
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    refused(folder, "sentence-transformers model, which returns vectors")


def test_weights_of_the_head_left_over_or_missing_are_listed(tmp_path: Path) -> None:
    weights = load_file(DATA_DIR / "tiny_roberta_topics" / "model.safetensors")
    matrix = weights.pop("classifier.dense.weight")
    weights |= {
        "classifier.extra.weight": matrix,
        "roberta.classifier.out_proj.bias": np.zeros(3, np.float32),
    }
    copy_source(tmp_path / "s", DATA_DIR / "tiny_roberta_topics", without=("model.safetensors",))
    save_file(weights, tmp_path / "s" / "model.safetensors")
    error = refused(tmp_path / "s", "do not fit the model")
    assert isinstance(error, WeightsMismatchError)
    assert error.missing == ("pooler/kernel",)
    assert "classifier.extra.weight" in error.unused
    assert any("classifier.out_proj.bias (the same as" in name for name in error.unused)


def test_an_unused_pooler_is_named_as_left_out(tmp_path: Path) -> None:
    weights = load_file(DATA_DIR / "tiny_roberta_topics" / "model.safetensors")
    weights |= {
        "roberta.pooler.dense.weight": np.zeros((32, 32), np.float32),
        "roberta.pooler.dense.bias": np.zeros(32, np.float32),
    }
    copy_source(tmp_path / "s", DATA_DIR / "tiny_roberta_topics", without=("model.safetensors",))
    save_file(weights, tmp_path / "s" / "model.safetensors")
    found = read(tmp_path / "s")
    assert any(note.startswith("left out: pooler that the head does not use") for note in found.notes)
    assert np.abs(found.source.weights["pooler/kernel"]).max() > 0


@pytest.mark.parametrize("model", heads.JUDGE_TEXTS)
def test_vectors_of_a_classifier_are_the_layer_below_its_head(
    model: str, build_head: Callable[[str], ModelBundle]
) -> None:
    golden = heads.expected(model)
    bundle = build_head(model)
    np.testing.assert_allclose(Encoder(bundle).encode(golden.texts), golden.arrays["below"], atol=TOLERANCE)
    first = EncodeRequest.resolve(bundle, layers=("1",))
    assert (first.outputs, first.pooling) == (("states_1",), Pooling.MEAN)
    last = EncodeRequest.resolve(bundle, layers=("-1",), pooling=Pooling.FIRST)
    assert (last.outputs, last.pooling) == (("states_2",), Pooling.FIRST)


def test_vectors_of_a_tagger_are_its_last_states(build_head: Callable[[str], ModelBundle]) -> None:
    request = EncodeRequest.resolve(build_head("tiny_bert_entities"))
    assert (request.outputs, request.pooling) == (("states_2",), Pooling.MEAN)


def test_a_bundle_of_classes_alone_has_no_vectors(build_head: Callable[[str], ModelBundle]) -> None:
    bundle = build_head("tiny_bert_rating")
    outputs = {"logits": bundle.manifest.outputs["logits"]}
    alone = ModelBundle(bundle.path, bundle.manifest.model_copy(update={"outputs": outputs}), bundle.digest)
    with pytest.raises(SettingsError, match="only outputs classes"):
        EncodeRequest.resolve(alone)


def test_scores_are_held_to_the_recorded_ones(build_head: Callable[[str], ModelBundle]) -> None:
    bundle = build_head("tiny_bert_rating")
    golden = Golden.read(bundle)
    for precision, small, large in ((Precision.FLOAT32, 1e-4, 1e-2), (Precision.BFLOAT16, 0.05, 0.5)):
        request = EncodeRequest(("logits",), None, False, 64, "", precision)
        golden.check(lambda _, off=small: {"logits": golden.outputs["logits"] + off}, request)  # type: ignore[misc]
        with pytest.raises(GoldenMismatchError, match="against the scores recorded"):
            golden.check(lambda _, off=large: {"logits": golden.outputs["logits"] + off}, request)  # type: ignore[misc]
    with pytest.raises(GoldenMismatchError, match="off by inf"):
        golden.check(lambda _: {"logits": golden.outputs["logits"][:, :0]}, request)


@pytest.mark.slow
def test_the_command_builds_verifies_and_describes_a_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = str(DATA_DIR / "tiny_distilbert_mood"), str(tmp_path / "b")
    assert main(["build", "bert", source, "--task", "classify", "--output", output]) == 0
    assert "single label (scores: softmax); labels: bad, so-so, good" in capsys.readouterr().out
    assert main(["verify", output]) == 0
    assert "5 outputs give their golden vectors" in capsys.readouterr().out
    assert main(["inspect", output]) == 0
    page = capsys.readouterr().out
    assert "classify (bert)" in page
    assert "softmax of the output" in page
    assert main(["build", "bert", source, "--labels", "x", "--output", str(tmp_path / "c")]) == 2
    assert "--labels has no effect without --task classify or pairs. Add it" in capsys.readouterr().err
