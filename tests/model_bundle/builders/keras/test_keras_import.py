"""Every artefact that the original stacks left, by name: what they gave, or the reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_bundle.builders.keras.build import build_keras_bundle
from model_bundle.builders.keras.options import KerasChoices
from tests.support.models.legacy import artefact, check_cases, check_job, check_number_job, check_texts


def columns(number: int) -> tuple[str, ...]:
    return tuple(f"x_{index}" for index in range(number))


def numbers(name: str, number: int) -> KerasChoices:
    return KerasChoices(extra_inputs={name: columns(number)})


TEXT = KerasChoices()
# SavedModels, by what has to be said of them.
SAVED_MODELS = {
    "000/a2_pure_subclassed_savedmodel/elmo_model_subclassed": TEXT,
    "000/a_subclassed_savedmodel/elmo_model_subclassed": TEXT,
    "000/c2_kerlayer_default_tf_saved_model/elmo_saved_model": TEXT,
    "000/c3_kerlayer_default_keras_formats/elmo_model": TEXT,
    "000/c3_kerlayer_elmo_keras_formats/elmo_model": TEXT,
    "000/c_tf_saved_model/elmo_saved_model": TEXT,
    "000/tf1_lambda_default/saved_model": TEXT,
    "001/a_string/model": TEXT,
    "001/b_tokens/model": KerasChoices(inputs={"input_4": "words"}),
    "001/c_tokens_and_len/model": TEXT,
    "002/a_mix3/model": TEXT,
    "002/b_as_post/model": TEXT,
    "002/tf1_a_mix3/saved_model": TEXT,
    "003/custom_layer_activation_named/model": numbers("input_4", 32),
    "003/functional_get_model/model": numbers("input_1", 32),
    "003/functional_mlp/model": numbers("digits", 20),
    "003/functional_mlp_dropout/model": numbers("digits", 20),
    "003/multi_input/model": KerasChoices(
        extra_inputs={"word_ids": tuple(f"w_{i}" for i in range(6)), "numbers": columns(3)},
        default_output="score",
    ),
    "003/nested_frozen/model": numbers("input_6", 20),
    "003/nested_trainable/model": numbers("input_5", 20),
    "003/sequential/model": numbers("digits", 20),
    "003/sequential_input_shape/model": numbers("dense_11_input", 20),
    "003/sequential_json_example/model": numbers("input_2", 32),
    "003/subclassed_CustomModel/model": numbers("input_1", 5),
    "003/subclassed_SubclassedModel/model": numbers("input_1", 20),
    "003/tf23_custom_layer_activation_named/model": numbers("input_4", 32),
    "003/tf23_functional_get_model/model": numbers("input_1", 32),
    "003/tf23_functional_mlp/model": numbers("digits", 20),
    "003/tf23_nested_frozen/model": numbers("input_6", 20),
    "003/tf23_sequential_input_shape/model": numbers("dense_5_input", 20),
    "003/tf23_subclassed_CustomModel/model": numbers("input_1", 5),
    "003/tf23_subclassed_SubclassedModel/model": numbers("input_1", 20),
    "004/example1_two_inputs/my_bert_classifier_keras": TEXT,
    "004/example2_numerical_features/my_bert_classifier_keras": numbers("numerical_features", 10),
    "004/seqclass_save_pretrained/tf/saved_model/1": TEXT,
    "004/tf23_example1_kwargs/my_bert_classifier_keras": TEXT,
}

# Graphs with ELMo or BERT take seconds each; of those that differ little, one is enough every time. Of models
# of numbers, those of TensorFlow 2.3 are there again as 2.15 saved them.
SLOW = {
    *(name for name in SAVED_MODELS if name.startswith("003/tf23")),
    "000/a2_pure_subclassed_savedmodel/elmo_model_subclassed",
    "000/a_subclassed_savedmodel/elmo_model_subclassed",
    "000/c2_kerlayer_default_tf_saved_model/elmo_saved_model",
    "000/c3_kerlayer_elmo_keras_formats/elmo_model",
    "000/c_tf_saved_model/elmo_saved_model",
    "000/tf1_lambda_default/saved_model",
    "001/a_string/model",
    "001/c_tokens_and_len/model",
    "002/a_mix3/model",
    "002/b_as_post/model",
    "002/tf1_a_mix3/saved_model",
    "004/example1_two_inputs/my_bert_classifier_keras",  # see test_keras_files
    "004/example2_numerical_features/my_bert_classifier_keras",  # see test_compare, test_numeric_inputs
    "004/tf23_example1_kwargs/my_bert_classifier_keras",
}
# Of the models of numbers, each kind of layer and input is there once more. The last: test_build_bert_heads.
REPEATED = {
    "003/functional_get_model/model",
    "003/functional_mlp/model",
    "003/functional_mlp_dropout/model",
    "003/nested_trainable/model",
    "003/sequential/model",
    "003/sequential_json_example/model",
    "003/subclassed_SubclassedModel/model",
    "004/seqclass_save_pretrained/tf/saved_model/1",
}
# Through the Beam job, each kind of input and output once every time, and all that are slow.
JOBS = {
    "000/a2_pure_subclassed_savedmodel/elmo_model_subclassed",
    "001/c_tokens_and_len/model",
    "002/a_mix3/model",
    "004/example1_two_inputs/my_bert_classifier_keras",
}


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=(pytest.mark.slow,) if name in SLOW | REPEATED else ())
        for name in SAVED_MODELS
    ],
)
def test_saved_models_give_what_they_gave(name: str, tmp_path: Path) -> None:
    made = artefact("/".join(name.split("/")[:2]))
    source = made.path.joinpath(*name.split("/")[2:])
    built = build_keras_bundle(source, SAVED_MODELS[name], tmp_path / "bundle")
    assert check_cases(built.bundle, made)
    manifest = built.bundle.manifest
    if manifest.tokenizer.kind == "none":
        check_number_job(built.bundle, made, tmp_path)
        return
    if any(spec.role == "numeric" for spec in manifest.inputs.values()):
        return  # of text and numbers: see test_numeric
    check_texts(built.bundle, made)
    if name in SLOW or name in JOBS:
        check_job(built.bundle, made, tmp_path)
