"""``python -m model_bundle``: what it prints and the code it ends with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import list_files
from model_bundle.bundle.manifest import GOLDEN_NAME, MANIFEST_NAME, TOKENIZER_FILE, BundleManifest
from model_bundle.cli.main import main
from tests.conftest import DATA_DIR

ROOT = Path(__file__).parents[3]
HELP = """
import sys
from model_bundle.cli.main import main
code = main(sys.argv[1:])
heavy = {"tensorflow", "transformers", "numpy", "huggingface_hub", "rich"} & sys.modules.keys()
sys.exit(f"imported {heavy}" if heavy else code)
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_bundle", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@pytest.fixture
def spoiled(build_tiny: Callable[[str], ModelBundle], tmp_path: Path) -> Path:
    """A copy whose parts a test may change; ``rewrite_manifest`` makes its digests right again."""
    return Path(shutil.copytree(build_tiny("tiny_bert").path, tmp_path / "bundle"))


def rewrite_manifest(bundle: Path, **changes: object) -> None:
    manifest = BundleManifest.read(bundle).model_copy(update={**changes, "files": list_files(bundle)})
    (bundle / MANIFEST_NAME).write_bytes(manifest.to_bytes())


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["build", "bert", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m model_bundle")


@pytest.mark.slow
def test_a_build_by_command_is_the_same_bit_by_bit_in_another_process(tmp_path: Path) -> None:
    output, again = tmp_path / "made" / "here", tmp_path / "again"
    source = str(DATA_DIR / "tiny_bert")
    done = run("build", "bert", source, "--output", str(output), PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert run("build", "bert", source, "--output", str(again), PYTHONHASHSEED="8").returncode == 0
    built = ModelBundle.open(again)
    assert f"digest: sha256:{built.digest}" in done.stdout
    assert "left out: pre-training heads: cls.predictions.bias" in done.stdout
    assert "warning: no licence found" in done.stdout
    assert ModelBundle.open(output).manifest == built.manifest
    assert [path.name for path in output.parent.iterdir()] == ["here"]  # nothing temporary is left


def test_what_the_user_can_mend_is_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for arguments, message in (
        (["verify", str(tmp_path)], "is not a model bundle: it has no bundle.json"),
        (["inspect", "nonsense"], "minilm. Build one with"),
        (["build", "bert", str(tmp_path), "--output", str(tmp_path / "new")], "no config.json"),
        (["build", "bert", "x", "--output", str(tmp_path / "taken")], "already exists"),
    ):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert message in printed.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["build"],
        ["build", "bert", "x"],
        ["build", "bert", "x", "--output", "y", "--normalize", "maybe"],
        ["build", "bert", "x", "--output", "y", "--max_tokens", "0"],
        ["build", "bert", "x", "--output", "y", "--pool", "mean"],
        ["verify", "x", "--unknown"],
    ],
)
def test_wrong_flags_are_one_message_that_names_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert re.fullmatch(r"error: .+\. See: python -m model_bundle[\w ]* --help\n", capsys.readouterr().err)


def test_verify_says_what_it_checked(
    build_tiny: Callable[[str], ModelBundle], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = build_tiny("tiny_bert")
    assert main(["verify", f"{bundle.path}@sha256:{bundle.digest}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    text = "\n".join(lines)
    assert bundle.digest in text
    assert "serving_default, serving_bfloat16 match the manifest" in text
    assert "4 golden texts give the recorded input" in text
    assert "float32: 4 outputs give their golden vectors" in text
    assert "bfloat16:" in lines[-1]


@pytest.mark.slow
def test_verify_notices_vectors_that_are_not_the_recorded_ones(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(spoiled / GOLDEN_NAME) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["output/states_1"][2, 1] *= -1.0  # one token of one layer that is not the default
    np.savez(spoiled / GOLDEN_NAME, allow_pickle=False, **arrays)
    rewrite_manifest(spoiled)
    assert main(["verify", str(spoiled)]) == 2
    assert "Output states_1 of the golden text 'embedding'" in capsys.readouterr().err


@pytest.mark.slow
def test_verify_notices_another_tokenizer(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((spoiled / TOKENIZER_FILE).read_text())
    content["normalizer"]["lowercase"] = False
    (spoiled / TOKENIZER_FILE).write_text(json.dumps(content))
    rewrite_manifest(spoiled)
    assert main(["verify", str(spoiled)]) == 2
    assert "golden texts give different ids" in capsys.readouterr().err


@pytest.mark.slow
def test_verify_notices_a_manifest_that_describes_another_signature(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = BundleManifest.read(spoiled)
    outputs = dict(manifest.outputs)
    outputs["pooler"] = outputs["pooler"].model_copy(update={"dim": 33})
    outputs["states_1"] = outputs["states_1"].model_copy(update={"kind": "text"})
    outputs["states_9"] = outputs.pop("states_0")
    ids = manifest.inputs["input_ids"]
    inputs = {"input_ids": ids.model_copy(update={"dtype": "int64"}), "mask": ids}
    rewrite_manifest(spoiled, outputs=outputs, inputs=inputs)
    assert main(["verify", str(spoiled)]) == 2
    message = capsys.readouterr().err
    for fault in (
        "output pooler has dimension 32, listed 33",
        "output states_1 has 3 axes, which does not fit the kind text",
        "output states_9 is missing",
        "input input_ids is int32, listed int64",
        "input attention_mask is not listed",
        "input mask is missing",
    ):
        assert f"serving_default: {fault}" in message
        assert f"serving_bfloat16: {fault}" in message


def test_verify_notices_a_saved_model_that_is_none(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spoiled / "saved_model" / "saved_model.pb").write_bytes(b"nonsense")
    rewrite_manifest(spoiled)
    assert main(["verify", str(spoiled)]) == 2
    assert "does not load as a SavedModel" in capsys.readouterr().err


def test_inspect_shows_what_one_needs_to_know(
    build_tiny: Callable[[str], ModelBundle], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = build_tiny("tiny_bert")
    assert main(["inspect", str(bundle.path)]) == 0
    page = capsys.readouterr().out
    for part in (
        "embed",
        bundle.digest,
        "64, special tokens counted",
        "lower-cases",
        "unknown",
        "float32, bfloat16",
    ):
        assert part in page
    for name in bundle.manifest.outputs:
        assert name in page
    assert main(["inspect", str(bundle.path), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["digest"] == bundle.digest
    assert BundleManifest.model_validate(described["manifest"]) == bundle.manifest


def test_inspect_does_not_take_what_a_manifest_says_for_markup(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_manifest(spoiled, name="[bold]mine[/nothing]", prompts={"query": "[red]"})
    assert main(["inspect", str(spoiled)]) == 0
    page = capsys.readouterr().out
    assert "[bold]mine[/nothing]" in page
    assert "query: '[red]'" in page


def test_inspect_says_that_a_bundle_allows_itself_nothing(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_manifest(spoiled, allowed_ops=("ReadFile", "WriteFile"))
    assert main(["inspect", str(spoiled)]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "asks for ReadFile,WriteFile: operations with effects outside the model" in page
    assert "allows nothing: it is opened only with --allow_ops ReadFile,WriteFile, or with a pinned" in page


def test_a_reader_that_has_had_enough_is_no_error(build_tiny: Callable[[str], ModelBundle]) -> None:
    command = f"{sys.executable} -m model_bundle inspect {build_tiny('tiny_bert').path} --json | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_public_names_are_there_and_import_lazily() -> None:
    import model_bundle

    for name in model_bundle.__all__:
        assert getattr(model_bundle, name).__name__ == name
    absent = "Nothing"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        getattr(model_bundle, absent)
    code = "import sys, model_bundle; model_bundle.ModelBundle; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
