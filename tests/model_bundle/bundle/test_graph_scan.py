"""What a SavedModel could do beside computing is found, wherever it is, before anything of it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.builders.tfhub.build import build_hub_bundle
from model_bundle.builders.tfhub.load import read_source
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import list_files
from model_bundle.bundle.graph_scan.proto import message_class, read_saved_model
from model_bundle.bundle.graph_scan.scan import scan_folder, scan_saved_model
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest
from model_bundle.cli.main import main
from model_bundle.errors import BundleFormatError, BundleIntegrityError, ForbiddenOperationError
from tests.conftest import shared_path
from tests.support.examples import examples
from tests.support.models.hub_modules import save_sentence_encoder
from tests.support.models.saved_models import (
    change,
    lengths,
    save,
    save_tf1,
    writes_in_creator,
    writes_in_initialiser,
    writes_in_loop,
    writes_in_signature,
    writes_on_restore,
)

PROJECT = Path(__file__).parents[3]
WRITERS = (writes_in_signature, writes_in_loop, writes_in_creator, writes_in_initialiser, writes_on_restore)
Writer = Callable[[Path, Path], Path]
OPEN = """
import sys
from model_bundle import Encoder, ModelBundle, ModelBundleError
for kind in (ModelBundle.open, Encoder):
    try:
        kind(sys.argv[1])
    except ModelBundleError as error:
        print(type(error).__name__)
sys.exit("TensorFlow was imported" if "tensorflow" in sys.modules else 0)
"""


@pytest.mark.parametrize("make", WRITERS, ids=lambda make: make.__name__)
def test_a_model_that_would_write_a_file_does_not_become_a_bundle(make: Writer, tmp_path: Path) -> None:
    target = tmp_path / "written"
    module = make(tmp_path / "module", target)
    with pytest.raises(
        ForbiddenOperationError, match=r"(?s)WriteFile writes files \(in .*--allow_ops WriteFile"
    ):
        build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")
    assert not target.exists()
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("make", WRITERS, ids=lambda make: make.__name__)
def test_the_models_are_as_bad_as_they_look(make: Writer, tmp_path: Path) -> None:
    """Without the scan, the file appears: these are no straw men."""
    target = tmp_path / "written"
    loaded = tf.saved_model.load(str(make(tmp_path / "module", target)))
    loaded.signatures["serving_default"](text=tf.constant(["a"]))
    assert target.exists()


@pytest.mark.parametrize("make", WRITERS, ids=lambda make: make.__name__)
def test_a_bundle_that_would_write_a_file_is_refused_before_tensorflow_is_there(
    make: Writer, text_bundle: Path, tmp_path: Path
) -> None:
    """Its list of files is right: whoever made it meant it."""
    target = tmp_path / "written"
    bundle = Path(shutil.copytree(text_bundle, tmp_path / "bundle"))
    shutil.rmtree(bundle / "saved_model")
    make(bundle / "saved_model", target)
    rewrite_manifest(bundle)
    command = [sys.executable, "-c", OPEN, str(bundle)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.returncode) == (["ForbiddenOperationError"] * 2, 0), done.stderr
    assert main(["verify", str(bundle)]) == 2
    assert not target.exists()


def rewrite_manifest(bundle: Path) -> None:
    manifest = BundleManifest.read(bundle).model_copy(update={"files": list_files(bundle)})
    (bundle / MANIFEST_NAME).write_bytes(manifest.to_bytes())


@pytest.mark.slow
def test_an_operation_allowed_by_name_is_recorded_and_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = writes_in_loop(tmp_path / "module", tmp_path / "written")
    command = ["build", "hub", str(module), "--output", str(tmp_path / "bundle")]
    assert main([*command, "--allow_ops", "ReadFile"]) == 2
    assert "WriteFile writes files" in capsys.readouterr().err
    assert main([*command, "--allow_ops", "WriteFile,ReadFile"]) == 0
    # Only what it has: nothing that a later, exchanged graph could use.
    bundle = str(tmp_path / "bundle")
    opened = ModelBundle.open(bundle, allow_recorded=True)
    assert opened.manifest.allowed_ops == opened.allowed_ops == ("WriteFile",)
    assert main(["inspect", bundle]) == 0
    assert "WriteFile" in capsys.readouterr().out
    # What it says of itself counts for nothing; whoever opens it decides, by name or by its digest.
    (tmp_path / "written").unlink()
    assert main(["verify", bundle]) == 2
    assert "WriteFile writes files" in capsys.readouterr().err
    for command in ([bundle, "--allow_ops", "WriteFile"], [f"{bundle}@sha256:{opened.digest}"]):
        assert not (tmp_path / "written").exists()
        assert main(["verify", *command]) == 0
        said = capsys.readouterr().out
        assert said.index("graph: may use WriteFile, as you allowed") < said.index("ok  signatures")
        (tmp_path / "written").unlink()


@pytest.mark.parametrize("text", ["", "Read File", "ReadFile,,PyFunc", "--force"])
def test_names_of_operations_are_checked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "hub", "module", "--output", "bundle", f"--allow_ops={text}"]) == 2
    assert "is not the name of an operation" in capsys.readouterr().err


def saved_models() -> Iterator[Path]:
    for folder in ("fixtures/keras_legacy", "fixtures/tf1_hub_toy_elmo"):
        for path in sorted(shared_path(folder).rglob("saved_model.pb")):
            yield path.parent


def test_every_model_of_old_stacks_passes_without_allowing_anything() -> None:
    found = list(saved_models())
    assert len(found) >= 38
    for path in found:
        assert scan_folder(path, str(path)) == ()


def test_own_bundles_pass(build_tiny: Callable[[str], ModelBundle], text_bundle: Path) -> None:
    for path in (build_tiny("tiny_bert").path, build_tiny("tiny_roberta").path, text_bundle):
        assert scan_folder(path / "saved_model", "own") == ()


@pytest.mark.slow
def test_minilm_passes(minilm_bundle: Path) -> None:
    assert scan_folder(minilm_bundle / "saved_model", "minilm") == ()


def test_the_text_form_is_scanned_like_the_other(tmp_path: Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    module = writes_in_loop(tmp_path / "module", tmp_path / "written")
    content = saved_model_pb2.SavedModel.FromString((module / "saved_model.pb").read_bytes())
    (module / "saved_model.pbtxt").write_text(text_format.MessageToString(content))
    with pytest.raises(BundleFormatError, match=r"expected one file with the graph.*saved_model\.pbtxt"):
        scan_folder(module, "a bundle")
    (module / "saved_model.pb").unlink()
    with pytest.raises(ForbiddenOperationError, match="WriteFile"):
        scan_saved_model(read_source(module), "a source")


def reads_checkpoints(text: Any) -> dict[str, Any]:
    restored = tf.raw_ops.RestoreV2(
        prefix="elsewhere", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    )
    return {"vector": lengths(text)["vector"] + restored[0]}


def prints(stream: str) -> Callable[[Any], dict[str, Any]]:
    def serve(text: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.raw_ops.PrintV2(input="x", output_stream=stream)]):
            return lengths(tf.identity(text))

    return serve


def calls_python(text: Any) -> dict[str, Any]:
    return {"vector": tf.numpy_function(lambda rows: rows, [lengths(text)["vector"]], tf.float32)}


def iterates_over_files(text: Any) -> dict[str, Any]:
    del text
    return lengths(next(iter(tf.data.TextLineDataset("/etc/hostname").batch(2))))


def test_a_layer_that_once_learned_from_data_passes(tmp_path: Path) -> None:
    """Keras 2 saves with it the step that takes batches from an iterator."""
    keras = pytest.importorskip("tf_keras")
    words = keras.layers.TextVectorization(output_sequence_length=4)
    words.adapt(["the cat sat", "a dog"])
    text = keras.Input((1,), dtype="string")
    model = keras.Model(text, keras.layers.Embedding(8, 2)(words(text)))
    model.save(tmp_path / "model")
    operations = (tmp_path / "model" / "saved_model.pb").read_bytes()
    assert b"IteratorGetNext" in operations
    assert scan_folder(tmp_path / "model", "a model") == ()


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        (iterates_over_files, "TextLineDataset reads data sets"),
        (reads_checkpoints, "RestoreV2 reads files"),
        (prints("file:///tmp/printed"), "PrintV2 writes what it prints to a file"),
        (calls_python, "PyFunc runs Python"),
        (lambda text: lengths(tf.io.read_file(text[0])[tf.newaxis]), "ReadFile reads files"),
        (lambda text: lengths(tf.io.matching_files(text)), "MatchingFiles reads files"),
    ],
)
def test_other_ways_out_are_named(serve: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ForbiddenOperationError, match=message):
        scan_folder(save(tmp_path / "module", serve), "a model")


@pytest.mark.parametrize("stream", ["stderr", "stdout", "log(info)"])
def test_printing_is_no_way_out(stream: str, tmp_path: Path) -> None:
    assert scan_folder(save(tmp_path / "module", prints(stream)), "a model") == ()


def test_a_table_may_be_filled_from_an_asset_also_when_saved_again(tmp_path: Path) -> None:
    path = save_sentence_encoder(tmp_path / "module", tmp_path / "vocabulary.txt")
    assert scan_folder(path, "a model") == ()
    loaded = tf.saved_model.load(str(path))
    tf.saved_model.save(loaded, str(tmp_path / "again"), signatures=dict(loaded.signatures))
    assert scan_folder(tmp_path / "again", "a model") == ()


@pytest.mark.parametrize("filename", ["../vocabulary.txt", "/etc/hostname", "a/../../b", "gs://bucket/words"])
def test_an_asset_outside_of_the_folder_is_refused(filename: str, tmp_path: Path) -> None:
    def rename(content: Any) -> None:
        content.meta_graphs[0].asset_file_def[0].filename = filename

    path = change(save_sentence_encoder(tmp_path / "module", tmp_path / "vocabulary.txt"), rename)
    with pytest.raises(BundleIntegrityError, match="assets lie outside of its folder"):
        scan_folder(path, "a model")


def bind_a_constant(content: Any) -> None:
    """Returns the initialiser a path that the graph holds, not an asset's."""
    graph = content.meta_graphs[0]
    objects = graph.object_graph_def
    constant = next(i for i, node in enumerate(objects.nodes) if node.WhichOneof("kind") == "constant")
    for name, function in objects.concrete_functions.items():
        if "initializer" in name:
            function.bound_inputs[0] = constant


def name_a_file_inside(content: Any) -> None:
    for function in content.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "InitializeTableFromTextFileV2":
                node.input[1] = "path:output:0"
                made = function.node_def.add(name="path", op="Const")
                made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/hostname"))
                return


@pytest.mark.parametrize("edit", [bind_a_constant, name_a_file_inside])
def test_a_table_may_not_be_filled_from_another_file(edit: Callable[[Any], None], tmp_path: Path) -> None:
    path = change(save_sentence_encoder(tmp_path / "module", tmp_path / "vocabulary.txt"), edit)
    with pytest.raises(
        ForbiddenOperationError, match="fills a table from a file that is not one of the model's own"
    ):
        scan_folder(path, "a model")


def test_a_model_of_tf1_may_fill_its_table_when_it_is_loaded_and_not_when_it_is_called(
    tmp_path: Path,
) -> None:
    assert scan_folder(save_tf1(tmp_path / "good", tmp_path / "words"), "a model") == ()
    bad = save_tf1(tmp_path / "bad", tmp_path / "words", in_signature=True)
    with pytest.raises(ForbiddenOperationError, match=r"fills a table from a file .* \(in the graph\)"):
        scan_folder(bad, "a model")


def test_what_a_signature_is_given_is_not_looked_behind(tmp_path: Path) -> None:
    """Training graphs read files; a signature that starts behind that does not."""
    path = save_tf1(tmp_path / "model", tmp_path / "words", reads_input=True)
    assert scan_folder(path, "a model") == ()


# Random graphs of functions: which of them call which, where it begins, and where the bad operation is.
SIZE = 6
CALLS = st.sets(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=12)
WAYS = ("f", "list", "operation", "text", "deep", "alike")


@settings(max_examples=examples(150), deadline=None)
@given(CALLS, st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), st.data())
def test_what_is_reached_is_found_and_nothing_else(
    calls: set[tuple[int, int]], start: int, bad: int, data: st.DataObject
) -> None:
    content = message_class("SavedModel")()
    graph = content.meta_graphs.add()
    for number in range(SIZE):
        function = graph.graph_def.library.function.add()
        function.signature.name = f"function_{number}"
        function.node_def.add(name="ok", op="MatMul")
    for caller, called in sorted(calls):
        add_call(graph, caller, called, data.draw(st.sampled_from(WAYS)))
    graph.graph_def.library.function[bad].node_def.add(name="bad", op="WriteFile")
    graph.graph_def.node.add(name="call", op=f"function_{start}")
    graph.signature_def["serve"].outputs["x"].name = "call:0"
    if bad in reached_from(start, calls):
        with pytest.raises(ForbiddenOperationError, match=rf"WriteFile writes files \(in function_{bad}\)"):
            scan_saved_model(content, "a model")
        assert scan_saved_model(content, "a model", ["WriteFile", "PyFunc"]) == ("WriteFile",)
    else:
        assert scan_saved_model(content, "a model") == ()


def add_call(graph: Any, caller: int, called: int, way: str) -> None:
    """Lets a function call another in one of the ways that graphs have."""
    function, name = graph.graph_def.library.function[caller], f"function_{called}"
    if way == "operation":
        function.node_def.add(name="call", op=name)
        return
    if way == "alike":  # an implementation that is put in the place of one that is called
        mark = f"{caller} {called}".encode()
        middle = graph.graph_def.library.function.add()
        middle.signature.name = f"like_{caller}_{called}"
        middle.attr["api_implements"].s = mark
        middle.attr["other"].s = name.encode()
        name = middle.signature.name
    node = function.node_def.add(name="call", op="PartitionedCall" if way in ("f", "alike") else "While")
    if way == "list":
        node.attr["branches"].list.func.add(name=name)
    elif way == "text":
        node.attr["function_name"].s = name.encode()
    elif way == "deep":
        node.attr["f"].func.name = "no such function"
        node.attr["f"].func.attr["body"].func.name = name
    else:
        node.attr["f"].func.name = name


def reached_from(start: int, calls: set[tuple[int, int]]) -> set[int]:
    found = {start}
    for _ in range(SIZE):
        found |= {called for caller, called in calls if caller in found}
    return found


def test_damage_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(BundleFormatError, match="does not load as a SavedModel"):
        read_saved_model(tmp_path)
    with pytest.raises(BundleFormatError, match="Other graph files: none"):
        read_saved_model(tmp_path / "elsewhere")
