"""Modules of sentence-transformers, against what it gave (``tests/goldens/record_sentences.py``)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
from model_bundle.builders.bert.sentence_modules import ACTIVATIONS
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import _pooling
from model_bundle.bundle.manifest import TOKENIZER_FILE
from model_bundle.bundle.specs import Pooling, Precision, Similarity
from model_bundle.errors import SettingsError, SourceError
from model_bundle.inference.encoder import Encoder
from model_bundle.quantize.build import quantize_bundle
from model_bundle.quantize.search import Bounds
from model_bundle.runtime.long_texts import LongTexts, OnLong
from model_bundle.runtime.pooling import normalize, pool, pool_in_graph
from model_bundle.text.subwords import SubwordInput
from tests.support.models.bert_formats import edit_json
from tests.support.models.sentences import cases, recorded, texts_of, write_case

TOLERANCE = 1e-5
PROMPTS = {"query": "the cat: ", "document": "a mat, ", "other": "one"}
# By the case: the poolings, what follows them, and the length of a vector.
SHAPES: dict[str, tuple[str, str, int]] = {
    "joined": ("last weighted_mean mean_sqrt_len mean max first", "", 192),
    "layer_norm": ("mean max", "layer_norm dense", 12),
    "truncated": ("mean", "normalize", 10),
    "without_prompt": ("first max mean mean_sqrt_len weighted_mean last", "", 192),
    "old_cls_dense": ("first", "dense", 32),
    "old_switches": ("first max mean", "", 96),
}


def read(name: str, target: Path, options: BertOptions | None = None) -> BertSource:
    return read_bert_source(str(write_case(name, target)), options or BertOptions()).source


def vectors_of(source: BertSource, texts: list[str], prompt: str, work: Path) -> np.ndarray:
    """Runs the graph's functions, without exporting them."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    from model_bundle.builders.graphs.bert import BertEncoder
    from model_bundle.builders.graphs.sentence import SentenceHead

    (work / "tokenizer.json").write_text(source.tokenizer_json)
    pools_prompt = source.sentence is None or source.sentence.include_prompt
    prepared = SubwordInput(
        work / "tokenizer.json", source.max_tokens, source.config.pad_id, prompt, pools_prompt=pools_prompt
    ).prepare(texts)
    fed = prepared.batch(np.arange(len(texts)))
    ids, mask = tf.constant(fed["ids"]), tf.constant(fed["mask"])
    states = BertEncoder(source.config, source.weights, "test").encode(ids, mask)[-1]
    if source.sentence is None:
        vectors = pool_in_graph(states, prepared.lengths, source.pooling or Pooling.MEAN)
    else:
        head = SentenceHead(source.sentence, source.sentence_weights)
        vectors = head.embed(states, mask, fed.get("skipped"))
    found = np.asarray(vectors)
    return normalize(found) if source.normalize else found


@pytest.mark.parametrize("name", sorted(cases()) if cases() else [])
def test_each_module_gives_what_sentence_transformers_gave(name: str, tmp_path: Path) -> None:
    source = read(name, tmp_path / "m")
    texts = texts_of(cases()[name]["encoder"])
    asked = [key.removeprefix(f"{name}/") for key in recorded() if key.startswith(f"{name}/")]
    asked = [prompt for prompt in asked if prompt == "none" or prompt in PROMPTS]
    assert asked
    for prompt in asked:
        default = "other" if name == "default_prompt" else ""
        text = PROMPTS.get(default, "") if prompt == "none" else PROMPTS[prompt]
        found = vectors_of(source, texts, text, tmp_path)
        np.testing.assert_allclose(found, recorded()[f"{name}/{prompt}"], atol=TOLERANCE, rtol=1e-5)
    if name in SHAPES:
        poolings, modules, dim = SHAPES[name]
        assert source.sentence is not None
        assert " ".join(source.sentence.poolings) == poolings
        assert " ".join(module.kind for module in source.sentence.modules) == modules
        assert source.sentence_dim == dim == found.shape[1]


def test_all_activations_and_poolings_were_recorded() -> None:
    assert {f"dense_{name}" for name in ACTIVATIONS} <= cases().keys()
    alone = {read_pooling for name in cases() if (read_pooling := name.removeprefix("pooling_")) != name}
    assert len(alone) == len(Pooling) - 1


@pytest.mark.parametrize("pooling", [p for p in Pooling if p is not Pooling.POOLER])
def test_the_reference_pools_like_the_graph(pooling: Pooling) -> None:
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    random = np.random.default_rng(7)
    states = random.normal(size=(3, 5, 4)).astype(np.float32)
    lengths = np.array([5, 1, 3], np.int32)
    mask = (np.arange(5) < lengths[:, np.newaxis]).astype(np.int32)
    states[mask == 0] = np.nan
    expected = pool(states, mask, pooling)
    graph = tf.constant(states)
    np.testing.assert_allclose(pool_in_graph(graph, tf.constant(lengths), pooling), expected, rtol=1e-5)
    # More is skipped than a text has: its last token stays.
    skipped = tf.constant([2, 7, 3])
    found = pool_in_graph(graph, tf.constant(lengths), pooling, skipped).numpy()
    if pooling is Pooling.WEIGHTED_MEAN:
        expected = np.average(states[0, 2:], axis=0, weights=[3, 4, 5])
        np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    else:
        np.testing.assert_allclose(found[0], pool(states[:1, 2:], mask[:1, 2:], pooling)[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], states[1, 0], rtol=1e-5)
    np.testing.assert_allclose(found[2], states[2, 2], rtol=1e-5)


def test_the_default_prompt_is_that_of_documents(tmp_path: Path) -> None:
    source = read("default_prompt", tmp_path / "m")
    # As encode_document has it; encode itself takes the default of the folder.
    assert (source.default_prompt, source.prompts) == ("document", PROMPTS)
    settings = {"prompts": {"query": "q: ", "other": None}, "default_prompt_name": "other"}
    edit_json(tmp_path / "m" / "config_sentence_transformers.json", **settings)
    source = read_bert_source(str(tmp_path / "m"), BertOptions()).source
    assert (source.default_prompt, source.prompts) == ("other", {"query": "q: ", "other": ""})


def test_the_similarity_is_kept(tmp_path: Path) -> None:
    assert read("prompts", tmp_path / "m").similarity is Similarity.EUCLIDEAN
    for stated, similarity in {"dot_product": Similarity.DOT, "cosine": Similarity.COSINE}.items():
        edit_json(tmp_path / "m" / "config_sentence_transformers.json", similarity_fn_name=stated)
        assert read_bert_source(str(tmp_path / "m"), BertOptions()).source.similarity is similarity


def test_options_meet_the_modules(tmp_path: Path) -> None:
    folder = str(write_case("truncated", tmp_path / "m"))

    def chain(**options: Any) -> tuple[Any, ...]:
        source = read_bert_source(folder, BertOptions(**options)).source
        if source.sentence is None:
            return source.pooling, source.normalize
        modules = [module.kind for module in source.sentence.modules]
        return source.sentence.poolings, modules, source.sentence.truncate_dim, source.normalize

    assert chain() == ((Pooling.MEAN,), ["normalize"], 10, False)
    assert chain(normalize=True) == ((Pooling.MEAN,), [], 10, True)
    assert chain(normalize=False, truncate_dim=3) == ((Pooling.MEAN,), [], 3, False)
    assert chain(truncate_dim=32) == (Pooling.MEAN, True)
    assert chain(pooling=Pooling.MAX) == ((Pooling.MAX,), ["normalize"], 10, False)
    assert chain(pooling=Pooling.POOLER) == (Pooling.POOLER, True)
    source = read_bert_source(folder, BertOptions(normalize=True)).source
    unit = vectors_of(source, texts_of("tiny_bert"), "", tmp_path)
    np.testing.assert_allclose(unit, recorded()["truncated/unit"], atol=TOLERANCE)
    for options in ({"truncate_dim": 33}, {"truncate_dim": 4, "pooling": Pooling.POOLER}):
        with pytest.raises(SourceError, match="--truncate_dim"):
            chain(**options)


def test_pooling_is_not_changed_below_layers_trained_with_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has modules after its own pooling \(dense\)"):
        read("dense_Tanh", tmp_path / "m", BertOptions(pooling=Pooling.MAX))


def test_what_is_not_known_of_a_module_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_case("layer_norm", tmp_path / "m")

    def message(file: str, **changes: Any) -> str:
        before = (folder / file).read_text()
        edit_json(folder / file, **changes)
        with pytest.raises(SourceError) as caught:
            read_bert_source(str(folder), BertOptions())
        (folder / file).write_text(before)
        return str(caught.value)

    dense = "4_Dense/config.json"
    for file in (dense, "2_LayerNorm/config.json", "3_Dropout/config.json", "1_Pooling/config.json"):
        assert "sets 'surprise' to 1" in message(file, surprise=1)
    assert "'torch.nn.Softmin'" in message(dense, activation_function="torch.nn.Softmin")
    assert "'mine.Tanh'" in message(dense, activation_function="mine.Tanh")
    assert "'token_embeddings'" in message(dense, module_input_name="token_embeddings")
    assert "'again'" in message(dense, module_output_name="again")
    assert "linear.weight: stored (12, 64), expected (12, 63)" in message(dense, in_features=63)
    assert "linear.bias" in message(dense, bias=False)
    assert "'in_features' is None" in message(dense, in_features=None)
    assert "pooling_mode is []" in message("1_Pooling/config.json", pooling_mode=[])
    assert "pooling_mode is ['mean', 'median']" in message(
        "1_Pooling/config.json", pooling_mode=["mean", "median"]
    )
    assert "takes 64 numbers, the one before it gives 32" in message(
        "1_Pooling/config.json", pooling_mode="mean"
    )
    settings = "config_sentence_transformers.json"
    assert "similarity_fn_name is 'near'" in message(settings, similarity_fn_name="near")
    assert "truncate_dim is 0" in message(settings, truncate_dim=0)
    assert "sets 'surprise'" in message(settings, surprise=1)
    modules = json.loads((folder / "modules.json").read_text())

    def with_module(index: int, **changes: Any) -> str:
        edited = [module | changes if i == index else module for i, module in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(edited))
        with pytest.raises(SourceError) as caught:
            read_bert_source(str(folder), BertOptions())
        return str(caught.value)

    assert "the module custom.Dense, which is code of its own" in with_module(4, type="custom.Dense")
    assert "the module custom_st.Transformer" in with_module(0, type="custom_st.Transformer")
    assert "has the module CNN" in with_module(2, type="sentence_transformers.models.CNN")
    assert "sets 'kwargs' to ['task']" in with_module(0, kwargs=["task"])
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "4_Dense" / "model.safetensors").rename(folder / "4_Dense" / "pytorch_model.bin")
    with pytest.raises(SourceError, match="Pickled weights run code when they are read"):
        read_bert_source(str(folder), BertOptions())


def test_a_prompt_that_leaves_nothing_to_pool_is_refused(tmp_path: Path) -> None:
    source = read("without_prompt", tmp_path / "m")
    (tmp_path / "tokenizer.json").write_text(source.tokenizer_json)
    with pytest.raises(SettingsError, match="The prompt has 5 tokens, of at most 6"):
        SubwordInput(tmp_path / "tokenizer.json", 6, 0, "the cat: a", pools_prompt=False)
    assert SubwordInput(tmp_path / "tokenizer.json", 7, 0, "the cat: a", pools_prompt=False).num_skipped == 5
    assert SubwordInput(tmp_path / "tokenizer.json", 6, 0, "", pools_prompt=False).num_skipped == 0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A bundle with joined poolings of what follows the prompt, a dense layer and a norm, cut short."""
    folder = write_case("layer_norm", tmp_path_factory.mktemp("sentence") / "m")
    edit_json(folder / "1_Pooling" / "config.json", include_prompt=False)
    edit_json(folder / "config_sentence_transformers.json", prompts=PROMPTS, truncate_dim=9)
    source = read_bert_source(str(folder), BertOptions()).source
    return build_encoder_bundle(source, folder.parent / "bundle")


@pytest.mark.slow
def test_a_bundle_computes_the_whole_chain(bundle: ModelBundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "bundle")
    opened = ModelBundle.open(tmp_path / "bundle")
    texts = texts_of("tiny_distilbert")
    edited = write_case("layer_norm", tmp_path / "m")
    edit_json(edited / "1_Pooling" / "config.json", include_prompt=False)
    edit_json(edited / "config_sentence_transformers.json", prompts=PROMPTS, truncate_dim=9)
    source = read_bert_source(str(edited), BertOptions()).source
    for prompt in ("document", "query"):
        expected = vectors_of(source, texts, PROMPTS[prompt], tmp_path)
        encoder = Encoder(opened, prompt=None if prompt == "document" else prompt)
        found = encoder.encode(texts)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
        for index, text in enumerate(texts):
            np.testing.assert_allclose(encoder.encode([text])[0], found[index], atol=1e-6, rtol=0)
        rounded = Encoder(opened, prompt=prompt, precision=Precision.BFLOAT16).encode(texts)
        cosines = (normalize(rounded) * normalize(found)).sum(axis=1)
        assert cosines.min() > 0.999
    assert encoder.encode(texts).shape == (len(texts), 9)
    assert "mean and max of what follows the prompt" in _pooling(opened.manifest)
    # Layers below are still there, and pooled as asked.
    assert Encoder(opened, layers=("-1",), pooling=Pooling.WEIGHTED_MEAN).encode(texts).shape[1] == 32
    with pytest.raises(SettingsError, match="sentence_embedding is one vector per text"):
        Encoder(opened, pooling=Pooling.MEAN)
    with pytest.raises(SettingsError, match="The prompt has"):
        Encoder(opened, prompt_text="a mat " * 60)


@pytest.mark.slow
def test_windows_of_such_a_bundle_leave_the_prompt_out_too(bundle: ModelBundle) -> None:
    long = " ".join(["the cat sat on the mat of many cities"] * 9)
    windows = LongTexts(on_long=OnLong.WINDOWS)
    encoder = Encoder(bundle, rows="window", long_texts=windows, max_tokens=24)
    found = next(encoder.encode_buffers([long]))
    assert len(found.vectors["sentence_embedding"]) > 3
    alone = Encoder(bundle, max_tokens=24).encode([long])
    np.testing.assert_allclose(found.vectors["sentence_embedding"][0], alone[0], atol=1e-5)


@pytest.mark.slow
def test_a_layer_of_keras_takes_what_it_tokenized(bundle: ModelBundle) -> None:
    from model_bundle.layers.embedding import BundleEmbedding

    layer = BundleEmbedding(bundle)
    texts = texts_of("tiny_distilbert")
    found = np.asarray(layer(layer.tokenize(texts)))
    np.testing.assert_allclose(found, Encoder(bundle).encode(texts), atol=TOLERANCE)
    with pytest.raises(ValueError, match="does not pool the tokens of its prompt"):
        layer(layer.tokenize(texts)["input_ids"])


@pytest.mark.slow
def test_such_a_bundle_can_be_quantized(bundle: ModelBundle, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    tokenizer = Tokenizer.from_file(str(bundle.path / TOKENIZER_FILE))
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha())
    texts = [" ".join(random.choice(words, 8)) for _ in range(40)]
    # That the float graph is what it was, sentence_embedding included, is checked on the way.
    quantized = quantize_bundle(bundle, texts, tmp_path / "int8", bounds=Bounds(0.5, 0.5))
    assert quantized.manifest.sentence == bundle.manifest.sentence
    assert quantized.manifest.int8 is not None
    precision = Precision.INT8 if quantized.manifest.int8.signature else Precision.INT7
    found, expected = Encoder(quantized, precision=precision).encode(texts), Encoder(bundle).encode(texts)
    assert found.shape == expected.shape == (40, 9)
    cosines = (normalize(found) * normalize(expected)).sum(axis=1)
    assert 0.9 < cosines.mean() < 1 - 1e-7
