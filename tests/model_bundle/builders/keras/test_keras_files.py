"""Every file that the original stacks left beside SavedModels, by name: what it gave, or why not."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.keras.build import build_keras_bundle, saved_model_of
from model_bundle.builders.keras.load.child import LoadAnswer, LoadTask, export_keras
from model_bundle.builders.keras.load.parent import Generation, run_task
from model_bundle.builders.keras.options import KerasChoices, LoadChoices
from model_bundle.builders.keras.source import find_source
from model_bundle.bundle.describe import describe
from model_bundle.errors import SourceError
from model_bundle.inference.classifier import Classifier
from tests.conftest import shared_path
from tests.support.models.keras_processes import keras_process
from tests.support.models.legacy import (
    DEV,
    Artefact,
    Case,
    artefact,
    check_cases,
    check_job,
    check_number_job,
    check_texts,
)

HERE = "tests.support.models.legacy_objects:"
Run = Callable[[LoadTask, Generation], LoadAnswer]


@dataclass(frozen=True)
class How:
    """How a file is loaded. ``weights`` lie beside it; ``objects`` and ``factory`` are of legacy_objects."""

    weights: str | None = None
    objects: tuple[str, ...] = ()
    factory: str | None = None
    lambdas: dict[str, str] = field(default_factory=dict)
    allow_code: bool = False

    def choices(self, folder: Path) -> LoadChoices:
        toy = shared_path(f"{DEV}/toy_elmo")
        return LoadChoices(
            weights=None if self.weights is None else folder / self.weights,
            model_factory=None if self.factory is None else HERE + self.factory,
            custom_objects=tuple(
                f"{name.split('=')[0]}={HERE}{name.split('=')[-1]}" for name in self.objects
            ),
            lambdas={layer: HERE + name for layer, name in self.lambdas.items()},
            hub_handles={f"https://tfhub.dev/google/elmo/{number}": toy for number in (2, 3)},
            allow_code=self.allow_code,
        )


def whole(folder: str, *names: str, objects: tuple[str, ...] = ()) -> dict[str, How]:
    return {f"{folder}/{name}": How(objects=objects) for name in names}


def parts(folder: str, *names: str, objects: tuple[str, ...] = ()) -> dict[str, How]:
    """An architecture, and each of these weights."""
    return {f"{folder}/architecture.json + {name}": How(weights=name, objects=objects) for name in names}


def made(folder: str, factory: str, *names: str) -> dict[str, How]:
    return {f"{folder}/{name}": How(factory=factory) for name in names}


WHOLE = ("model.h5", "model.keras")
GUIDE = (*WHOLE, "model_h5inside.keras")
WEIGHTS = ("weights.h5", "model.weights.h5", "ckpt/ckpt")
CUSTOM = ("CustomLayer", "custom_activation")
LAMBDA = {"lambda_3": "elmo_embedding"}
# The Python whose byte code is in the files.
MADE_BY = (3, 11)
BYTE_CODE = How(objects=("elmo_embedding",), allow_code=True)
TF1 = {"lambda": "elmo_pooled"}

FILES: dict[str, How] = {
    "000/b_json_weights_lambda/elmo_model_architecture.json": How("elmo_model_weights.h5", lambdas=LAMBDA),
    "000/b2_json_weights_lambda_bytecode/elmo_model_architecture.json": replace(
        BYTE_CODE, weights="elmo_model_weights.h5"
    ),
    "000/b2_json_weights_lambda_bytecode/elmo_model_lambda.h5": BYTE_CODE,
    "000/b2_json_weights_lambda_bytecode/elmo_model_lambda.keras": BYTE_CODE,
    **whole("000/c3_kerlayer_default_keras_formats", "elmo_model.h5", "elmo_model.keras"),
    **whole("000/c3_kerlayer_elmo_keras_formats", "elmo_model.h5", "elmo_model.keras"),
    "000/tf1_lambda_default/model.h5": How(lambdas=TF1),
    "000/tf1_lambda_default/architecture.json + weights.h5": How("weights.h5", lambdas=TF1),
    "000/tf1_lambda_default/architecture.json + ckpt/model.ckpt": How("ckpt/model.ckpt", lambdas=TF1),
    **whole("001/a2_string_b1", *WHOLE, objects=("ElmoEmbeddingLayer",)),
    **made("001/a2_string_b1", "elmo_string_column", *WEIGHTS[:2]),
    **whole("001/a3_string_with_get_config", *WHOLE, objects=("ElmoEmbeddingLayerCfg",)),
    **made("001/a3_string_with_get_config", "elmo_string", *WEIGHTS[:2]),
    **whole("001/a_string", *WHOLE, objects=("ElmoEmbeddingLayer",)),
    **made("001/a_string", "elmo_string", *WEIGHTS[:2], "ckpt/weights"),
    **whole("001/b_tokens", *WHOLE, objects=("ElmoTokenEmbeddingLayer",)),
    **made("001/b_tokens", "elmo_tokens", *WEIGHTS[:2], "ckpt/weights"),
    **whole("001/c_tokens_and_len", *WHOLE, objects=("ElmoTokensAndLenLayer",)),
    **made("001/c_tokens_and_len", "elmo_tokens_and_lengths", *WEIGHTS[:2], "ckpt/weights"),
    **whole("002/a_mix3", *WHOLE, objects=("KerasLayer",)),
    **made("002/a_mix3", "elmo_mix", *WEIGHTS[:2], "ckpt/weights"),
    **whole("002/b_as_post", *WHOLE, objects=("KerasLayer",)),
    **made("002/b_as_post", "elmo_mix_as_post", *WEIGHTS[:2], "ckpt/weights"),
    **whole("002/tf1_a_mix3", "model.h5", objects=("KerasLayer",)),
    **parts("002/tf1_a_mix3", "weights.h5", "ckpt/model.ckpt", objects=("KerasLayer",)),
    **whole("002/tf1_b_as_post", "model.h5", objects=("KerasLayer=KerasLayerAsPost",)),
    **parts("002/tf1_b_as_post", "weights.h5", "ckpt/model.ckpt", objects=("KerasLayer=KerasLayerAsPost",)),
    **whole("003/custom_layer_activation", "model.keras", objects=CUSTOM),
    **parts("003/custom_layer_activation", "model.weights.h5", objects=CUSTOM),
    **whole("003/custom_layer_activation_named", *GUIDE, objects=CUSTOM),
    **parts("003/custom_layer_activation_named", *WEIGHTS, objects=CUSTOM),
    **whole("003/functional_get_model", *GUIDE),
    **parts("003/functional_get_model", *WEIGHTS),
    **whole("003/functional_mlp", *GUIDE),
    **parts("003/functional_mlp", *WEIGHTS),
    **whole("003/functional_mlp_dropout", *GUIDE),
    **parts("003/functional_mlp_dropout", *WEIGHTS),
    **whole("003/multi_input", *GUIDE),
    **parts("003/multi_input", *WEIGHTS),
    **made("003/nested_frozen", "nested_20_frozen", *WEIGHTS),
    # The order of weights in the file is another than the model's here: names decide.
    **made("003/nested_frozen_square", "nested_10", "weights.h5"),
    **made("003/nested_trainable", "nested_20", *WEIGHTS),
    **made("003/pretrained_ckpt", "pretrained", "pretrained_ckpt", "pretrained_weights.h5"),
    **whole("003/sequential", *GUIDE),
    **parts("003/sequential", *WEIGHTS),
    **whole("003/sequential_input_shape", *GUIDE),
    **parts("003/sequential_input_shape", *WEIGHTS),
    **whole("003/sequential_json_example", *GUIDE),
    **parts("003/sequential_json_example", *WEIGHTS),
    **whole("003/subclassed_CustomModel", "model.keras", objects=("CustomModel",)),
    **made("003/subclassed_CustomModel", "custom_model", *WEIGHTS),
    **whole("003/subclassed_SubclassedModel", "model.keras", objects=("SubclassedModel",)),
    **made("003/subclassed_SubclassedModel", "subclassed_model", *WEIGHTS),
    **whole("003/tf23_custom_layer_activation_named", *GUIDE, objects=CUSTOM),
    **parts("003/tf23_custom_layer_activation_named", *WEIGHTS, objects=CUSTOM),
    **whole("003/tf23_functional_get_model", *GUIDE),
    **parts("003/tf23_functional_get_model", *WEIGHTS),
    **whole("003/tf23_functional_mlp", *GUIDE),
    **parts("003/tf23_functional_mlp", *WEIGHTS),
    **whole("003/tf23_multi_input", *GUIDE),
    **parts("003/tf23_multi_input", *WEIGHTS),
    **made("003/tf23_nested_frozen", "nested_20", *WEIGHTS),
    **made("003/tf23_pretrained_ckpt", "pretrained", "pretrained_ckpt", "pretrained_weights.h5"),
    **whole("003/tf23_sequential_input_shape", *GUIDE),
    **parts("003/tf23_sequential_input_shape", *WEIGHTS),
    **made("003/tf23_subclassed_CustomModel", "custom_model", *WEIGHTS),
    **made("003/tf23_subclassed_SubclassedModel", "subclassed_model", *WEIGHTS),
    **made("003/tf23_tf_train_checkpoint", "contrived", "ckpt-1"),
    **made("003/tf_train_checkpoint", "contrived", "ckpt-1"),
    **whole("004/example1_two_inputs", "my_bert_classifier.h5", "my_bert_classifier.keras"),
    **parts("004/example1_two_inputs", "weights.h5", "ckpt/weights"),
    **whole("004/example2_numerical_features", "my_bert_classifier.h5"),
    **parts("004/example2_numerical_features", "weights.h5"),
    **made("004/tf23_example1_kwargs", "bert_classifier_of_one_layer", "weights.h5"),
    **made("004/tf23_example1_two_inputs", "bert_classifier", "weights.h5"),
}

# What cannot become a bundle, and what is said of it.
FAULTS: dict[str, tuple[How, str]] = {
    # Not in its own stack either: the class is given the layer's ``trainable``, which TF-Hub refuses.
    "000/a_subclassed_h5/elmo_model_subclassed.h5": (
        How(objects=("ELMoModel",)),
        "KerasLayer.trainable = True",
    ),
    "000/a_subclassed_keras/elmo_model_subclassed.keras": (
        How(objects=("ELMoModel",)),
        "KerasLayer.trainable = True",
    ),
    "003/custom_layer_ckpt/custom_layer-1": (How(), "weights without an architecture"),
    "003/tf23_custom_layer_ckpt/custom_layer-1": (How(), "weights without an architecture"),
    "004/example1_two_inputs/my_bert_classifier": (How(), "does not contain exactly one saved model"),
    "004/example2_numerical_features/my_bert_classifier": (How(), "does not contain exactly one saved model"),
    "004/tf23_example1_kwargs/my_bert_classifier": (How(), "does not contain exactly one saved model"),
    "004/tf23_example1_two_inputs/my_bert_classifier": (How(), "does not contain exactly one saved model"),
    "004/seqclass_save_pretrained/safetensors": (How(), "build bert .*--task classify"),
    "004/seqclass_save_pretrained/pt_safetensors": (How(), "build bert .*--task classify"),
    "004/tf23_seqclass_save_pretrained/tf": (How(), "build bert .*--task classify"),
}


# Loading an ELMo or a BERT takes seconds: one of each way in which their files differ.
USUAL = {
    "000/b2_json_weights_lambda_bytecode/elmo_model_lambda.keras",
    "000/tf1_lambda_default/model.h5",
    "001/a_string/model.h5",
    "002/a_mix3/weights.h5",
    "004/example1_two_inputs/my_bert_classifier.h5",
    "004/example1_two_inputs/architecture.json + ckpt/weights",
}
# One model of numbers is loaded in every way in which it was saved; of the others, the first way of each.
EVERY_WAY = "003/functional_mlp"


def slow_marks(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """What repeats another file is slow: every file is loaded there."""
    model = model_of(name)
    first = next(other for other in FILES if model_of(other) == model)
    if model.startswith("003"):
        # Files of TensorFlow 2.3 differ from those of 2.15 in how they were written, not in their models.
        of_its_kind = not model.startswith("003/tf23") or model.endswith("functional_mlp")
        usual = model == EVERY_WAY or (of_its_kind and name == first)
    else:
        usual = name in USUAL
    return () if usual else (pytest.mark.slow,)


def model_of(name: str) -> str:
    return "/".join(name.split("/")[:2])


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Has tasks done by two processes, one for each Keras, for the whole module."""
    with ExitStack() as stack:
        started: dict[int, Any] = {}

        def submit(task: LoadTask, generation: Generation) -> LoadAnswer:
            if generation not in started:
                started[generation] = stack.enter_context(keras_process(generation))
            try:
                answer: LoadAnswer = started[generation].submit(export_keras, task).result()
            except BrokenExecutor:  # only the test whose model ended it fails
                del started[generation]
                raise
            return answer

        yield submit


def without_byte_code_of_others(names: Iterable[str]) -> list[str]:
    """Returns the files whose byte code, if they have some, this Python can run."""
    return [name for name in names if not FILES[name].allow_code or sys.version_info[:2] == MADE_BY]


def opened(name: str) -> tuple[Artefact, Path]:
    """Returns the artefact of a name, and the file to build from."""
    artefact_name = model_of(name)
    inside = name.removeprefix(f"{artefact_name}/").split(" + ")[0]
    one = artefact(artefact_name)
    return one, one.path / inside


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow_marks(name)) for name in without_byte_code_of_others(FILES)]
)
def test_files_give_what_they_gave(name: str, run: Run, tmp_path: Path) -> None:
    one, path = opened(name)
    exported = saved_model_of(find_source(path), FILES[name].choices(one.path), tmp_path / "exported", run)
    assert any("weights were found" in note for note in exported.notes)
    signature = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    compared = [case for case in one.cases() if case.outputs]
    for case in compared[:3]:
        check_signature(signature, case, one.atol)
    assert compared


def check_signature(signature: Any, case: Case, atol: float) -> None:
    specs = signature.structured_input_signature[1]
    only = next(iter(case.inputs.values()))
    fed = {name: tf.constant(case.inputs.get(name, only), spec.dtype) for name, spec in specs.items()}
    found = signature(**fed)
    for name, expected in case.outputs.items():
        array = found[name] if name in found else next(iter(found.values()))
        np.testing.assert_allclose(array.numpy(), expected, atol=atol, rtol=0, err_msg=case.name)


@pytest.mark.slow
@pytest.mark.needs_shared
@pytest.mark.parametrize("name", without_byte_code_of_others(FILES))
def test_files_go_through_the_job(name: str, run: Run, tmp_path: Path) -> None:
    """Whole bundles of all of them; texts and numbers each as a table of their own."""
    one, path = opened(name)
    loading = FILES[name].choices(one.path)
    if name.startswith("001/b_tokens"):
        # Keras numbers unnamed inputs as its process goes on; a new process gives the name it gives to users.
        run = run_task
    exported = saved_model_of(find_source(path), loading, tmp_path / "exported", run)
    choices = replace(number_choices(exported.path), loading=loading)
    if name.startswith("001/b_tokens"):
        choices = replace(choices, inputs={next(iter(signature_specs(exported.path))): "words"})
    bundle = build_keras_bundle(path, choices, tmp_path / "bundle", run).bundle
    assert check_cases(bundle, one)
    if bundle.manifest.tokenizer.kind == "none":
        check_number_job(bundle, one, tmp_path)
    elif not choices.extra_inputs and one.texts():
        check_texts(bundle, one)
        check_job(bundle, one, tmp_path)


def signature_specs(saved_model: Path) -> dict[str, tf.TensorSpec]:
    loaded = tf.saved_model.load(str(saved_model))
    specs: dict[str, tf.TensorSpec] = loaded.signatures["serving_default"].structured_input_signature[1]
    return specs


def number_choices(saved_model: Path) -> KerasChoices:
    """Names columns for the inputs that are neither text nor tokens."""
    tokens = {"input_ids", "attention_mask", "token_type_ids"}
    extra = {
        name: tuple(f"{name}_{column}" for column in range(spec.shape[1]))
        for name, spec in signature_specs(saved_model).items()
        if spec.dtype != tf.string and name not in tokens and spec.shape.rank == 2
    }
    several = {"default_output": "score"} if "word_ids" in extra else {}
    return KerasChoices(extra_inputs=extra, **several)


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name",
    # The .keras file of the same model stays.
    [
        pytest.param(n, marks=[pytest.mark.slow] if n.startswith("000/a_subclassed_h5") else [])
        for n in FAULTS
    ],
)
def test_what_does_not_load_says_why(name: str, run: Run, tmp_path: Path) -> None:
    one, path = opened(name)
    how, message = FAULTS[name]
    with pytest.raises(SourceError, match=message):
        saved_model_of(find_source(path), how.choices(one.path), tmp_path / "exported", run)


@pytest.mark.needs_shared
@pytest.mark.skipif(sys.version_info[:2] == MADE_BY, reason="this Python made their byte code")
@pytest.mark.parametrize("name", [name for name in FILES if FILES[name].allow_code])
def test_byte_code_of_another_python_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    one, path = opened(name)
    with pytest.raises(SourceError, match=r"(?s)byte code in lambda.* is not of Python.*--lambda_function"):
        saved_model_of(find_source(path), FILES[name].choices(one.path), tmp_path / "exported", run)


@pytest.mark.needs_shared
def test_a_classifier_of_transformers_inside_keras_takes_segments(run: Run, tmp_path: Path) -> None:
    """A functional model around it, in the form that Keras 2.15 gives it, with weights that 2.15 saved."""
    one = artefact("004/seqclass_save_pretrained")
    names = ("input_ids", "attention_mask", "token_type_ids")
    settings = json.loads((one.path / "tf" / "config.json").read_text())
    layer = {
        "module": "transformers.models.bert.modeling_tf_bert",
        "class_name": "TFBertForSequenceClassification",
        "config": settings,
        "registered_name": "TFBertForSequenceClassification",
        "name": "classifier_7",
        "inbound_nodes": [[[name, 0, 0, {}] for name in names]],
    }
    inputs = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, None], "dtype": "int32", "name": name},
            "name": name,
            "inbound_nodes": [],
        }
        for name in names
    ]
    config = {
        "name": "model",
        "layers": [*inputs, layer],
        "input_layers": [[name, 0, 0] for name in names],
        "output_layers": [["classifier_7", 0, 0]],
    }
    architecture = {"class_name": "Functional", "config": config, "keras_version": "2.15.0"}
    (tmp_path / "model.json").write_text(json.dumps(architecture))
    with h5py.File(one.path / "tf" / "tf_model.h5") as old, h5py.File(tmp_path / "model.h5", "w") as new:
        arrays: dict[str, Any] = {}
        old.visititems(
            lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
        group = new.create_group("classifier_7")
        group.attrs["weight_names"] = [f"classifier_7/{name.split('/', 1)[1]}" for name in arrays]
        new.attrs["layer_names"] = ["classifier_7"]
        for stored, array in zip(group.attrs["weight_names"], arrays.values(), strict=True):
            group[stored] = array
    exported = saved_model_of(find_source(tmp_path / "model.json"), LoadChoices(), tmp_path / "exported", run)
    signature = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    for case in one.cases():
        check_signature(signature, case, one.atol)


HIDDEN_STATES = "cases/models/hs0"


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["model.keras", pytest.param("model.h5", marks=pytest.mark.slow)])
def test_hidden_states_have_the_numbers_that_keras_gave_them(name: str, run: Run, tmp_path: Path) -> None:
    """The model averages output 0, which is the first of the hidden states: outputs are sorted by name."""
    case = shared_path(HIDDEN_STATES)
    expected = json.loads((case / "expected.json").read_text())
    bundle = build_keras_bundle(case / name, KerasChoices(), tmp_path / "bundle", run).bundle
    scores = Classifier(bundle).classify(expected["texts"]).scores
    np.testing.assert_allclose(scores, expected["exp"], atol=1e-5)
    compared = describe(bundle)["manifest"]["source"]["compared_with"]
    assert compared.startswith("nothing: TFBertModel of transformers cannot run here")
    assert "--expected" in compared


def hidden_states_model(folder: Path, last: list[dict[str, Any]], **changes: Any) -> Path:
    """Writes the encoder of that model, all of whose outputs are the model's, and some layers above."""
    case = shared_path(HIDDEN_STATES)
    with zipfile.ZipFile(case / "model.keras") as archive:
        whole = json.loads(archive.read("config.json"))
    config = whole["config"]
    encoder = next(layer for layer in config["layers"] if layer["name"] == "tf_bert_model")
    encoder["config"] |= {key: value for key, value in changes.items() if not key.startswith("call_")}
    encoder["inbound_nodes"][0][0][3] |= {
        key.removeprefix("call_"): value for key, value in changes.items() if key.startswith("call_")
    }
    config["layers"] = [
        *(one for one in config["layers"] if one["class_name"] == "InputLayer"),
        encoder,
        *last,
    ]
    config["output_layers"] = [
        *(["tf_bert_model", 0, number] for number in range(5)),
        *([layer["name"], 0, 0] for layer in last),
    ]
    path = folder / "model.json"
    path.write_text(json.dumps(whole | {"keras_version": "2.15.0"}))
    with h5py.File(case / "model.h5") as old, h5py.File(folder / "weights.h5", "w") as new:
        old.copy("model_weights/tf_bert_model", new)
        new.attrs["layer_names"] = ["tf_bert_model"]
    return path


def hidden_states_of(path: Path, run: Run) -> list[np.ndarray]:
    """Exports such a model; returns its outputs in order for two short texts."""
    exported = saved_model_of(
        find_source(path), LoadChoices(weights=path.parent / "weights.h5"), path.parent / "exported", run
    )
    signature = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    ids = np.zeros((2, 16), np.int32)
    ids[:, :4] = [[2, 5, 6, 3], [2, 9, 7, 3]]
    found = signature(input_ids=tf.constant(ids), attention_mask=tf.constant((ids > 0).astype(np.int32)))
    return [found[name].numpy() for name in sorted(found, key=lambda name: (name.startswith("cat"), name))]


@pytest.mark.slow
@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"output_hidden_states": False, "call_output_hidden_states": True},
        {"return_dict": False},
        {"call_return_dict": False},
    ],
)
def test_every_form_of_hidden_states(changes: dict[str, Any], run: Run, tmp_path: Path) -> None:
    """By configuration or call, as a dict or a tuple, and the last layers side by side."""
    is_tuple = changes.get("return_dict", changes.get("call_return_dict")) is False
    # Sorted by name: hidden states, last state, pooled; a tuple has the hidden states last.
    first, second, third, last, pooled = (2, 3, 4, 0, 1) if is_tuple else (0, 1, 2, 3, 4)
    side_by_side = {
        "module": "keras.layers",
        "class_name": "Concatenate",
        "config": {"name": "cat", "trainable": True, "dtype": "float32", "axis": -1},
        "registered_name": None,
        "name": "cat",
        "inbound_nodes": [[["tf_bert_model", 0, second, {}], ["tf_bert_model", 0, third, {}]]],
    }
    found = hidden_states_of(hidden_states_model(tmp_path, [side_by_side], **changes), run)
    assert found[pooled].shape == (2, 24)
    np.testing.assert_array_equal(found[last], found[third])
    np.testing.assert_array_equal(found[-1], np.concatenate([found[second], found[third]], axis=-1))
    assert not np.allclose(found[first], found[second], atol=0.1)


@pytest.mark.slow
@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"call_output_attentions": True}, "tf_bert_model returns attention probabilities"),
        ({"output_attentions": True}, "tf_bert_model returns attention probabilities"),
        ({"call_head_mask": [1, 1]}, "tf_bert_model is given head_mask"),
        ({"call_training": True}, "called with training=True"),
        ({"transformers_version": "4.20.1", "call_output_hidden_states": False}, "depends on the release"),
        ({"output_hidden_states": False}, "hidden states need output_hidden_states=True"),
        ({"call_output_hidden_states": False}, "hidden states need output_hidden_states=True"),
    ],
)
def test_what_a_stand_in_does_not_do_is_refused_by_name(
    changes: dict[str, Any], message: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        hidden_states_of(hidden_states_model(tmp_path, [], **changes), run)
    assert "SavedModel" in str(caught.value)
    assert "in user code" not in str(caught.value)


def test_every_artefact_is_listed() -> None:
    """Files that none of the lists names are parts of others."""
    from tests.model_bundle.builders.keras.test_keras_import import SAVED_MODELS

    ways = {**FILES, **{name: how for name, (how, _) in FAULTS.items()}, **dict.fromkeys(SAVED_MODELS, How())}
    # An architecture with its weights is two files; a folder may be one model further in (saved_model/1).
    used = {name.split(" + ")[0] for name in ways}
    used |= {f"{name.rpartition('/')[0]}/{how.weights}" for name, how in ways.items() if how.weights}
    used |= {name.replace("architecture.json + ", "") for name in ways}
    for entry in json.loads((shared_path(DEV) / "index.json").read_text("utf-8")):
        for file in entry["files"]:
            name = f"{entry['path']}/{file}"
            listed = [one for one in used if one == name or one.startswith(f"{name}/")]
            assert listed or file == "checkpoint", f"{name} is in no list"


# Artefacts that left no SavedModel: whole bundles of them, numbers and texts through the Encoder.
BUNDLES: dict[str, KerasChoices] = {
    "000/b2_json_weights_lambda_bytecode/elmo_model_lambda.h5": KerasChoices(),
    "001/a2_string_b1/model.h5": KerasChoices(),
    "002/tf1_b_as_post/model.h5": KerasChoices(),
    "003/nested_frozen_square/weights.h5": KerasChoices(extra_inputs={"numbers": tuple("abcdefghij")}),
    "004/example1_two_inputs/my_bert_classifier.h5": KerasChoices(),
}


# Loading these is tested above, and whole bundles of all files where they go through the job.
SLOW_BUNDLES = {
    "000/b2_json_weights_lambda_bytecode/elmo_model_lambda.h5",
    "001/a2_string_b1/model.h5",
    "002/tf1_b_as_post/model.h5",
}


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_BUNDLES else [])
        for name in without_byte_code_of_others(BUNDLES)
    ],
)
def test_bundles_of_files_give_what_they_gave(name: str, run: Run, tmp_path: Path) -> None:
    one, path = opened(name)
    choices = replace(BUNDLES[name], loading=FILES[name].choices(one.path))
    built = build_keras_bundle(path, choices, tmp_path / "bundle", run)
    assert check_cases(built.bundle, one)
    if built.bundle.manifest.tokenizer.kind == "text":
        check_texts(built.bundle, one)
