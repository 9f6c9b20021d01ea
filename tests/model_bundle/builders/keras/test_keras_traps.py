"""What goes wrong with saved Keras models without a word, one by one; the artefacts are made here."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer

from model_bundle.builders.keras.build import build_keras_bundle, saved_model_of
from model_bundle.builders.keras.load.child import LoadAnswer, LoadTask, export_keras
from model_bundle.builders.keras.load.custom_objects import Redirect
from model_bundle.builders.keras.load.parent import Generation
from model_bundle.builders.keras.options import KerasChoices, LoadChoices
from model_bundle.builders.keras.source import find_source
from model_bundle.builders.tfhub.handle import cache_folder
from model_bundle.bundle.specs import Pooling, Precision
from model_bundle.errors import SourceError
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.inputs import numeric_key
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from tests.conftest import DATA_DIR, shared_path
from tests.support.models.bert_formats import write_main_layer
from tests.support.models.hub_modules import save_signatures
from tests.support.models.keras_artefacts import (
    NUMBERS,
    ODD_NAMES,
    TEXTS,
    load_lambda_checkpoint,
    make_all,
    make_keras_3,
)
from tests.support.models.keras_processes import keras_process

HERE, OBJECTS = "tests.support.models.keras_artefacts:", "tests.support.models.legacy_objects:"
Load = Callable[..., tuple[np.ndarray, tuple[str, ...]]]


class Kerases:
    """Two processes, one for each Keras, and a folder with what they saved."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.processes = {2: stack.enter_context(keras_process(2)), 3: stack.enter_context(keras_process(3))}
        self.folder = folder / "keras_2"
        made = [
            self.processes[2].submit(make_all, self.folder),
            self.processes[3].submit(make_keras_3, folder / "keras_3"),
        ]
        for future in made:
            future.result()
        for path in (folder / "keras_3").iterdir():
            path.rename(self.folder / path.name)

    def run(self, task: LoadTask, generation: Generation) -> LoadAnswer:
        answer: LoadAnswer = self.processes[generation].submit(export_keras, task).result()
        return answer


@pytest.fixture(scope="module")
def kerases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kerases]:
    with ExitStack() as stack:
        yield Kerases(stack, tmp_path_factory.mktemp("keras"))


@pytest.fixture
def load(kerases: Kerases, tmp_path: Path) -> Load:
    """Loads an artefact; gives what it computes, and notes."""

    def load(name: str, size: int = 20, **choices: Any) -> tuple[np.ndarray, tuple[str, ...]]:
        if "weights" in choices:
            choices["weights"] = kerases.folder / choices["weights"]
        source = find_source(kerases.folder / name)
        exported = saved_model_of(source, LoadChoices(**choices), tmp_path / "exported", kerases.run)
        signature = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
        (key,) = signature.structured_input_signature[1]
        (output,) = signature(**{key: tf.constant(NUMBERS[:, :size])}).values()
        return output.numpy(), exported.notes

    return load


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("mlp.keras", {}),
        ("mlp.h5", {}),
        ("mlp", {}),
        ("mlp_once.json", {"weights": "mlp_weights.h5"}),
        ("mlp_twice.json", {"weights": "mlp_weights.h5"}),
        ("mlp_once.json", {"weights": "mlp.weights.h5"}),
        ("mlp_once.json", {"weights": "mlp_ckpt/weights"}),
        ("mlp_once.json", {"weights": "mlp_ckpt/weights.index"}),
        ("mlp_weights.h5", {"model_factory": OBJECTS + "mlp"}),
        ("mlp.keras", {"model_factory": OBJECTS + "mlp"}),
        ("mlp_ckpt/weights", {"model_factory": OBJECTS + "mlp"}),
        # Layers without weights in between change no name.
        ("mlp_weights.h5", {"model_factory": OBJECTS + "mlp_dropout"}),
        # From a functional model to a class with layers of the same names.
        ("mlp_weights.h5", {"model_factory": OBJECTS + "subclassed_model"}),
        ("own", {}),  # without its class
        ("mlp3.keras", {}),
        ("mlp3.h5", {}),
        ("mlp3.json", {"weights": "mlp3.weights.h5"}),
        ("mlp3_export", {}),
    ],
)
def test_every_way_of_saving_gives_what_the_model_gave(
    name: str, choices: dict[str, str], load: Load, kerases: Kerases
) -> None:
    found, _ = load(name, **choices)
    expected = np.load(kerases.folder / f"{name.split('.')[0].split('_')[0].split('/')[0]}.npy")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_of_one_shape_are_paired_by_name_whatever_was_frozen(load: Load, kerases: Kerases) -> None:
    found, notes = load("square_weights.h5", 10, model_factory=OBJECTS + "nested_10")
    np.testing.assert_allclose(found, np.load(kerases.folder / "square.npy"), atol=1e-6)
    assert "all 4 weights were found in square_weights.h5, by name" in notes


def test_layers_that_are_numbered_otherwise_are_told(load: Load, kerases: Kerases) -> None:
    found, notes = load("twins_weights.h5", model_factory=HERE + "twins")
    np.testing.assert_allclose(found, np.load(kerases.folder / "twins.npy"), atol=1e-6)
    assert any("dense_7 is dense_8 here, dense_8 is dense_9 here" in note for note in notes)


def test_layers_that_could_be_either_are_an_error(load: Load) -> None:
    with pytest.raises(SourceError, match=r"dense_7 is dense_8 by its number, dense_9 by its place"):
        load("twins_weights.h5", model_factory=HERE + "twins_crossed")


@pytest.mark.parametrize("weights", ["mlp_weights.h5", "mlp_ckpt/weights"])
def test_a_partial_match_lists_both_sides(weights: str, load: Load) -> None:
    with pytest.raises(
        SourceError, match=r"(?s)Stored, but not expected \(2\).*predictions|layer-3|layer_with"
    ):
        load(weights, model_factory=OBJECTS + "pretrained")
    with pytest.raises(SourceError, match=r"of another shape|Of another shape|do not fit|incompatible"):
        load(weights, model_factory=OBJECTS + "mlp_other_head")


def test_a_model_that_was_never_called_is_an_error(load: Load) -> None:
    with pytest.raises(SourceError, match=r"Call it once on an input of the right shape"):
        load("mlp_weights.h5", model_factory=OBJECTS + "uncalled_model")


def test_weights_alone_ask_for_an_architecture(load: Load) -> None:
    with pytest.raises(SourceError, match="--model_factory MODULE:FUNCTION"):
        load("mlp_weights.h5")


def test_a_class_that_is_not_given_is_named(kerases: Kerases, tmp_path: Path) -> None:
    config = json.loads((kerases.folder / "mlp_once.json").read_text())
    config["config"]["layers"][1] |= {"class_name": "Mystery", "module": None, "registered_name": "Mystery"}
    (tmp_path / "mystery.json").write_text(json.dumps(config))
    choices = LoadChoices(weights=kerases.folder / "mlp_weights.h5")
    with pytest.raises(SourceError, match=r"Mystery[\s\S]*--custom_objects"):
        saved_model_of(find_source(tmp_path / "mystery.json"), choices, tmp_path / "out", kerases.run)


@pytest.mark.parametrize("name", ["code.h5", "code.keras", "code.json", "code3.keras"])
def test_code_in_a_file_does_not_run_unless_allowed(name: str, load: Load, kerases: Kerases) -> None:
    choices = {"weights": "code_weights.h5"} if name.endswith("json") else {}
    with pytest.raises(SourceError, match=r"(?s)byte code.*with your permissions.*--allow_code"):
        load(name, **choices)
    assert not (kerases.folder / "ran").exists()


@pytest.mark.parametrize("name", ["code.h5", "code.keras", "code.json", "code3.keras"])
def test_a_function_of_one_s_own_replaces_code(name: str, load: Load, kerases: Kerases) -> None:
    choices = {"weights": "code_weights.h5"} if name.endswith("json") else {}
    expected = np.load(kerases.folder / f"{name.split('.')[0]}.npy")
    replaced, _ = load(name, lambdas={"double": HERE + "double"}, **choices)
    np.testing.assert_allclose(replaced, expected, atol=1e-6)
    assert not (kerases.folder / "ran").exists()


def test_allowed_code_of_keras_3_runs(load: Load, kerases: Kerases) -> None:
    found, _ = load("code3.keras", allow_code=True)
    np.testing.assert_allclose(found, np.load(kerases.folder / "code3.npy"), atol=1e-6)


def test_allowed_code_runs(load: Load, kerases: Kerases) -> None:
    found, notes = load("code.h5", allow_code=True)
    np.testing.assert_allclose(found, np.load(kerases.folder / "code.npy"), atol=1e-6)
    assert any("double (Lambda)" in note for note in notes)
    assert (kerases.folder / "ran").exists()
    (kerases.folder / "ran").unlink()


def change_first_dense(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copies a .keras file with another architecture."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            text = old.read(entry)
            if entry == "config.json":
                content = json.loads(text)
                change(content["config"]["layers"][1])
                text = json.dumps(content).encode()
            new.writestr(entry, text)
    return target


def test_a_module_that_a_file_names_is_not_imported(kerases: Kerases, tmp_path: Path) -> None:
    fly = {"module": "antigravity", "class_name": "fly", "registered_name": None}
    changed = change_first_dense(
        kerases.folder / "mlp.keras", tmp_path / "changed.keras", lambda layer: layer.update(fly)
    )
    with pytest.raises(SourceError, match=r"fly would be imported from the module antigravity"):
        saved_model_of(find_source(changed), LoadChoices(), tmp_path / "out", kerases.run)


@pytest.mark.parametrize("name", ["mlp.keras", "mlp3.keras"])
@pytest.mark.parametrize("allow_code", [False, True])
def test_a_function_that_is_not_given_is_named_with_its_flag(
    name: str, allow_code: bool, kerases: Kerases, tmp_path: Path
) -> None:
    own = {"module": "builtins", "class_name": "function", "config": "mystery", "registered_name": "function"}
    changed = change_first_dense(
        kerases.folder / name,
        tmp_path / "changed.keras",
        lambda layer: layer["config"].update(activation=own),
    )
    choices = LoadChoices(allow_code=allow_code)
    with pytest.raises(SourceError, match=r"mystery[\s\S]*--custom_objects MODULE:NAME"):
        saved_model_of(find_source(changed), choices, tmp_path / "out", kerases.run)


def test_a_handle_in_a_lambda_is_asked_for_and_never_fetched(load: Load, tmp_path: Path) -> None:
    lambdas = {"double": HERE + "ask_the_hub"}
    with pytest.raises(SourceError, match=r"--hub_handle https://tfhub.dev/somebody/some-module/1=DIR"):
        load("code.h5", lambdas=lambdas)

    def lengths(inputs: Any) -> dict[str, Any]:
        return {"default": tf.cast(tf.strings.length(inputs), tf.float32)}

    module = save_signatures(tmp_path / "toy", tf.Module(), default=lengths)
    handles = {"https://tfhub.dev/somebody/some-module/1/": module}
    found, _ = load("code.h5", lambdas=lambdas, hub_handles=handles)
    assert found.shape == (3, 2)


def test_a_module_in_the_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://tfhub.dev/somebody/cached/1"
    resolver = Redirect({})
    with pytest.raises(SourceError, match=f"--hub_handle {handle}=DIR"):
        resolver(handle)
    cached = Path(cache_folder(handle))
    cached.mkdir()
    (cached / "saved_model.pb").touch()
    assert resolver(handle) == str(cached)
    assert resolver.is_supported("/a/folder")  # what is loaded from a plain path is scanned, too


def test_bytes_tell_what_a_file_is_not_its_name(kerases: Kerases, tmp_path: Path) -> None:
    shutil.copy(kerases.folder / "mlp.h5", tmp_path / "model.keras")
    shutil.copy(kerases.folder / "mlp.keras", tmp_path / "model.h5")
    assert find_source(tmp_path / "model.keras").kind == "h5_model"
    assert find_source(tmp_path / "model.h5").kind == "keras_zip"
    with pytest.raises(SourceError, match=r"(?s)Name one:.*model.h5.*\(Keras zip\).*model.keras"):
        find_source(tmp_path)


@pytest.mark.parametrize("size", [0, 8, 300])
def test_files_that_are_cut_short_say_so(size: int, kerases: Kerases, tmp_path: Path) -> None:
    for name in ("mlp.keras", "mlp.h5"):
        cut = tmp_path / name
        cut.write_bytes((kerases.folder / name).read_bytes()[:size])
        with pytest.raises(SourceError, match=r"not a saved model|incomplete|not a complete|no Keras model"):
            saved_model_of(find_source(cut), LoadChoices(), tmp_path / "out", kerases.run)


def test_numbers_alone_become_a_bundle(kerases: Kerases, tmp_path: Path) -> None:
    columns = tuple(f"x_{index}" for index in range(20))
    choices = KerasChoices(extra_inputs={"digits": columns}, task="embed")
    built = build_keras_bundle(kerases.folder / "mlp.keras", choices, tmp_path / "bundle", kerases.run)
    manifest = built.bundle.manifest
    assert manifest.tokenizer.kind == "none"
    assert manifest.inputs["digits"].columns == columns
    again = build_keras_bundle(kerases.folder / "mlp.keras", choices, tmp_path / "again", kerases.run)
    assert again.bundle.digest == built.bundle.digest
    with pytest.raises(SourceError, match="--extra_input digits=COLUMN"):
        build_keras_bundle(kerases.folder / "mlp.keras", KerasChoices(), tmp_path / "other", kerases.run)


@pytest.mark.parametrize("name", ["words2.keras", "words3.keras"])
def test_vocabularies_come_along(name: str, kerases: Kerases, tmp_path: Path) -> None:
    built = build_keras_bundle(kerases.folder / name, KerasChoices(), tmp_path / "bundle", kerases.run)
    expected = np.load(kerases.folder / f"{name.split('.')[0]}.npy")
    np.testing.assert_allclose(Encoder(built.bundle).encode(TEXTS), expected, atol=1e-6)


def test_weights_that_would_be_ignored_are_refused(load: Load) -> None:
    with pytest.raises(SourceError, match=r"--weights: .*mlp.keras contains its own"):
        load("mlp.keras", weights="mlp_weights.h5")
    with pytest.raises(
        SourceError, match="--model_factory builds the model, and SOURCE contains its weights"
    ):
        load("mlp_once.json", model_factory=OBJECTS + "mlp")
    with pytest.raises(SourceError, match=r"--hub_handle: .* is a SavedModel"):
        load("mlp", hub_handles={"a": Path("b")})


def test_architectures_ask_which_weights(load: Load) -> None:
    with pytest.raises(SourceError, match=r"(?s)name its weights.*--weights .*mlp_weights.h5"):
        load("mlp_once.json")


def test_names_that_lead_out_of_a_zip_are_refused(kerases: Kerases, tmp_path: Path) -> None:
    shutil.copy(kerases.folder / "mlp.keras", tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras", "a") as archive:
        archive.writestr("assets/../../outside", "x")
    with pytest.raises(SourceError, match=r"point outside it: assets/../../outside"):
        saved_model_of(find_source(tmp_path / "model.keras"), LoadChoices(), tmp_path / "out", kerases.run)


def test_names_of_inputs_that_are_no_parameters_are_replaced(kerases: Kerases, tmp_path: Path) -> None:
    columns = {name: tuple(f"{name} {n}" for n in range(size)) for size, name in enumerate(ODD_NAMES, 2)}
    choices = KerasChoices(extra_inputs=columns, task="embed")
    built = build_keras_bundle(kerases.folder / "odd.h5", choices, tmp_path / "bundle", kerases.run)
    manifest = built.bundle.manifest
    names = ["Input_Token", "a_b_2", "a_b_3", "a_b", "a_b_4", "arg_1st", "arg_class", "arg__under", "Gr__e"]
    assert {name: manifest.inputs[name].columns for name in names} == dict(
        zip(names, columns.values(), strict=True)
    )
    assert "input a.b of the model is a_b_3 here" in built.notes
    request = EncodeRequest((manifest.default_output,), None, False, None, "", Precision.FLOAT32)
    runtime = TensorFlowRuntime(built.bundle, request)
    given = {numeric_key(name): NUMBERS[:, :size] for size, name in enumerate(names, 2)}
    (found,) = runtime.run(given).values()
    np.testing.assert_allclose(found, np.load(kerases.folder / "odd.npy"), atol=1e-5)


@pytest.mark.parametrize(
    ("folder", "inputs"),
    [("keras_bert", {}), ("keras_bert_dir", {"Input-Token": "ids", "Input_Segment": "types"})],
)
def test_token_ids_in_floats_as_keras_bert_has_them(
    folder: str, inputs: dict[str, Any], kerases: Kerases, tmp_path: Path
) -> None:
    choices = KerasChoices(inputs=inputs, tokenizer=DATA_DIR / "tiny_bert")
    built = build_keras_bundle(kerases.folder / folder, choices, tmp_path / "bundle", kerases.run)
    assert built.bundle.manifest.inputs["Input_Token"].role == "ids"
    texts = ["The cat sat", "good cafe!"]
    tokenizer = Tokenizer.from_file(str(DATA_DIR / "tiny_bert" / "tokenizer.json"))
    table = np.load(kerases.folder / "keras_bert.npy")
    padded = [(tokenizer.encode(text).ids + [0] * 12)[:12] for text in texts]
    np.testing.assert_allclose(Encoder(built.bundle).encode(texts), table[padded].max(axis=1), atol=1e-6)
    if inputs:
        return
    wrong = KerasChoices(inputs={"Input-Token": "text"})
    with pytest.raises(SourceError, match=r"--input Input_Token=text: .* numeric or mask or ids or types"):
        build_keras_bundle(kerases.folder / folder, wrong, tmp_path / "other", kerases.run)


def test_a_main_layer_of_transformers_gives_what_it_gave(kerases: Kerases, tmp_path: Path) -> None:
    folder = shared_path("cases/models/mainlayer_h5")
    recorded = json.loads((folder / "expected.json").read_text())
    choices = KerasChoices(task="embed")
    built = build_keras_bundle(folder / "model.h5", choices, tmp_path / "bundle", kerases.run)
    np.testing.assert_allclose(Encoder(built.bundle).encode(recorded["texts"]), recorded["exp"], atol=1e-5)
    assert "TFBertMainLayer" in str(built.bundle.manifest.source.compared_with)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("TFRobertaMainLayer", "tiny_roberta", marks=pytest.mark.slow),
        ("TFDistilBertMainLayer", "tiny_distilbert"),
    ],
)
def test_main_layers_of_other_families(name: str, model: str, kerases: Kerases, tmp_path: Path) -> None:
    write_main_layer(tmp_path / "model.h5", name, DATA_DIR / model)
    choices = KerasChoices(tokenizer=DATA_DIR / model, default_output="encoder_part", pooling=Pooling.FIRST)
    built = build_keras_bundle(tmp_path / "model.h5", choices, tmp_path / "bundle", kerases.run)
    with np.load(DATA_DIR / model / "expected.npz") as golden:
        texts, expected = json.loads(golden["texts"].tobytes()), golden["states"][-1][:, 0]
    np.testing.assert_allclose(Encoder(built.bundle).encode(texts), expected, atol=1e-5)


def test_main_layers_by_path_and_of_others_are_refused(kerases: Kerases, tmp_path: Path) -> None:
    write_main_layer(tmp_path / "model.h5", "TFXLNetMainLayer", DATA_DIR / "tiny_bert")
    with pytest.raises(SourceError, match=r"contains TFXLNetMainLayer .* Supported .* TFRobertaModel"):
        saved_model_of(find_source(tmp_path / "model.h5"), LoadChoices(), tmp_path / "out", kerases.run)
    write_main_layer(tmp_path / "evil.h5", "TFBertMainLayer", DATA_DIR / "tiny_bert", package="evil>")
    with pytest.raises(SourceError, match=r"evil>TFBertMainLayer is not one of Keras' classes"):
        saved_model_of(find_source(tmp_path / "evil.h5"), LoadChoices(), tmp_path / "out", kerases.run)


def test_a_module_in_a_lambda_gets_its_weights_from_a_checkpoint(kerases: Kerases, tmp_path: Path) -> None:
    def load(name: str, **options: Any) -> list[float]:
        (tmp_path / name).mkdir()
        made = kerases.processes[2].submit(load_lambda_checkpoint, tmp_path / name, **options)
        values: list[float] = made.result()
        return values

    assert load("once", anew=False) == [5.0]
    with pytest.raises(SourceError, match=r"Load it once, outside the function: MODULE = hub.load"):
        load("anew", anew=True)
    with pytest.raises(SourceError, match=r"equal names in module, module_1: which TF-Hub module"):
        load("two", anew=False, scopes=("module", "module_1"))
    with pytest.raises(SourceError, match=r"module/other"):
        load("unused", anew=False, scopes=("module", "module/other"))
