"""Links in a source folder: what they lead to does not end up in a bundle, unless it is of the source."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.builders.keras.build import build_keras_bundle
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.sidecar_files import find_sidecar
from model_bundle.builders.keras.source import find_source
from model_bundle.builders.source_folder import SourceFolder, check_links
from model_bundle.errors import SourceError

TINY_BERT = Path(__file__).parents[2] / "data" / "tiny_bert"
OUT = "is a link that leads out of"


def replace_by_link(path: Path, elsewhere: Path) -> None:
    """Moves a file or folder elsewhere, and puts a link in its place."""
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    path.rename(elsewhere)
    path.symlink_to(os.path.relpath(elsewhere, path.parent))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "LICENSE"])
def test_a_file_of_a_bert_folder_that_is_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY_BERT, folder)
    if not (folder / name).exists():
        (folder / name).write_text("some text")
    replace_by_link(folder / name, tmp_path / "private" / name)
    with pytest.raises(SourceError, match=rf"{name} {OUT} .*model, to .*private/{name}"):
        read_bert_source(str(folder), BertOptions())


def test_the_cache_of_the_hub_and_links_inside_are_part_of_the_source(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--tiny" / "snapshots" / "0123"
    shutil.copytree(TINY_BERT, snapshot)
    for number, path in enumerate(list(snapshot.iterdir())):
        if path.is_file():
            replace_by_link(path, tmp_path / "models--tiny" / "blobs" / str(number))
    (tmp_path / "by_link").symlink_to(snapshot)
    assert read_bert_source(str(tmp_path / "by_link"), BertOptions()).source.name
    (snapshot / "more").mkdir()
    (snapshot / "more" / "README.md").symlink_to("../config.json")
    assert SourceFolder(snapshot).find("more/README.md") is not None
    # A blob that leads on to another place is none of the cache's.
    (tmp_path / "secret").write_text("x")
    (tmp_path / "models--tiny" / "blobs" / "evil").symlink_to(tmp_path / "secret")
    (snapshot / "LICENSE").unlink(missing_ok=True)
    (snapshot / "LICENSE").symlink_to("../../blobs/evil")
    with pytest.raises(SourceError, match=OUT):
        read_bert_source(str(snapshot), BertOptions())


def test_an_encoder_s_folder_is_inside(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copytree(TINY_BERT, tmp_path / "private")
    (folder / "linked").symlink_to(tmp_path / "private")
    (folder / "modules.json").write_text(
        '[{"idx":0,"name":"0","path":"linked","type":"sentence_transformers.models.Transformer"},'
        '{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]'
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    with pytest.raises(SourceError, match=OUT):
        read_bert_source(str(folder), BertOptions())


@pytest.mark.parametrize("part", ["assets/words.txt", "assets"])
def test_an_asset_that_is_elsewhere_is_refused_before_the_model_is_loaded(part: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one\ntwo\n")

    class Lookup(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            index = tf.lookup.TextFileIndex
            self.table = tf.lookup.StaticVocabularyTable(
                tf.lookup.TextFileInitializer(
                    str(words), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
                ),
                1,
            )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
        def serve(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"vectors": tf.cast(self.table.lookup(texts), tf.float32)[:, tf.newaxis]}

    folder = tmp_path / "model"
    module = Lookup()
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    replace_by_link(folder / part, tmp_path / "private" / "part")
    with pytest.raises(SourceError, match=rf"{part} {OUT}"):
        build_keras_bundle(folder, KerasChoices(), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("../../private/words.txt", OUT),
        ("secret.txt", "is a link to secret.txt, which is not there"),
        ("words.txt", "is a link to words.txt, which is not there"),  # itself
        ("other.txt", None),
    ],
)
def test_links_in_a_folder_lead_to_something_inside(target: str, cause: str | None, tmp_path: Path) -> None:
    for name in ("model/assets/other.txt", "private/words.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one\n")
    (tmp_path / "model" / "assets" / "words.txt").symlink_to(target)
    if cause is None:
        check_links(tmp_path / "model")
        return
    with pytest.raises(SourceError, match=cause):
        check_links(tmp_path / "model")


def test_models_and_tokenizers_that_are_found_are_no_links_out(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (tmp_path / "private.json").write_text('{"class_name": "Sequential", "config": {}}')
    folder.mkdir()
    (folder / "model.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(SourceError, match=OUT):
        find_source(folder)
    assert find_source(folder / "model.json").kind == "architecture"  # named by the user
    shutil.copytree(TINY_BERT, tmp_path / "private")
    (folder / "tokenizer").symlink_to(tmp_path / "private")
    (folder / "own.json").write_bytes((tmp_path / "private.json").read_bytes())
    with pytest.raises(SourceError, match=OUT):
        find_sidecar(folder / "own.json", None)
