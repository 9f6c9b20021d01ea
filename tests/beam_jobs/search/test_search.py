"""``python -m beam_jobs.search``: nearest documents, conditions, questions from standard input."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.errors import UsageError
from beam_jobs.search.__main__ import main, waiting_lines
from beam_jobs.search.nearest import nearest, similarities
from beam_jobs.search.query import Prompt, own_prompt
from beam_jobs.search.searcher import Answer, Hit
from beam_jobs.search.where import Condition
from beam_jobs.store.batches import read_batches
from beam_jobs.store.dataset import run_schema
from beam_jobs.store.finished_run import find_run
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import Similarity
from model_bundle.inference.encoder import Encoder
from tests.support.examples import examples
from tests.support.models.sentences import recorded
from tests.support.runs.jobs import Run, capture, run_job, write_jsonl
from tests.support.runs.made_runs import make_run

DOCUMENTS = [
    {"id": "cat", "text": "the cat sat on the mat", "topic": "cats", "year": 2019},
    {"id": "dog", "text": "a quick brown dog ran home", "topic": "dogs", "year": 2020},
    {"id": "time", "text": "time and time of the home", "topic": None, "year": 2021},
]


def search(*argv: Any) -> tuple[int, str, str]:
    """Runs the command: exit code, output, errors."""
    with capture() as (stdout, stderr):
        code = main([str(word) for word in argv])
    return code, stdout.getvalue(), stderr.getvalue()


def answers(*argv: Any) -> list[dict[str, Any]]:
    """The answers as JSON."""
    code, stdout, stderr = search(*argv, "--format", "json")
    assert code == 0, stderr
    return [json.loads(line) for line in stdout.splitlines()]


@pytest.fixture(scope="module")
def run(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("search")
    source = write_jsonl(folder / "in.jsonl", DOCUMENTS)
    flags = ("--id_column", "id", "--keep_text", "--keep_columns", "topic,year", "--prompt", "query")
    done = run_job(folder / "out", tiny_bundle, "--input", source, *flags)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def words(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("words")
    source = write_jsonl(folder / "in.jsonl", DOCUMENTS)
    done = run_job(folder / "out", tiny_bundle, "--input", source, "--id_column", "id", "--rows", "word")
    assert done.exit_code == 0, done.stderr
    return done


def test_a_text_finds_itself_with_the_prompt_of_the_run(run: Run) -> None:
    for document in DOCUMENTS:
        (answer,) = answers(run.root.parent, "--query", document["text"])
        best, *others = answer["hits"]
        # With another prompt than the run's the cosine would be below 1.
        assert best["cosine"] == pytest.approx(1, abs=1e-5)
        assert {name: best["row"][name] for name in ("text", "topic", "year")} == {
            name: document[name] for name in ("text", "topic", "year")
        }
        assert [hit["cosine"] for hit in others] == sorted((h["cosine"] for h in others), reverse=True)
        assert len(others) == 2
    other = answers(run.root, "--query", "the cat sat on the mat", "--prompt_text", "", "--top", "1")
    assert other[0]["hits"][0]["cosine"] < 0.9999


def test_a_question_gets_the_prompt_for_questions(tiny_bundle: Path, tmp_path: Path, words: Run) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)
    texts = [document["text"] for document in DOCUMENTS]
    plain = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--id_column", "id")
    encoder = Encoder(tiny_bundle, prompt="query")
    expected = encoder.encode(["a dog"]) @ Encoder(tiny_bundle).encode(texts).T
    code, stdout, stderr = search(plain.root, "--query", "a dog", "--format", "json")
    assert (code, _prompts_in(stderr)) == (0, ["query: 'time of '"])
    hits = json.loads(stdout)["hits"]
    assert [hit["cosine"] for hit in hits] == pytest.approx(sorted(expected[0], reverse=True), abs=1e-5)
    # The caller's own text goes before the bundle's, here and in the run. Words have no prompt.
    own = search(plain.root, "--query", "a dog", "--prompt_text", "cat ")
    assert _prompts_in(own[2]) == ["'cat '"]
    assert _prompts_in(search(plain.root, "--query", "a dog", "--prompt_text", "")[2]) == []
    assert _prompts_in(search(words.root, "--query", "a dog")[2]) == []
    prompts = {"query": "time of ", "passage": "home "}
    assert own_prompt(_with_prompts(tiny_bundle, prompts), "home ") == Prompt("query")
    assert own_prompt(_with_prompts(tiny_bundle, prompts), "") == Prompt("query")
    assert own_prompt(_with_prompts(tiny_bundle, prompts), "my own ") is None
    assert own_prompt(_with_prompts(tiny_bundle, {"passage": "home "}), "home ") is None


def _prompts_in(stderr: str) -> list[str]:
    begin = "query prompt: "
    return [line.removeprefix(begin) for line in stderr.splitlines() if line.startswith(begin)]


def _with_prompts(bundle: Path, prompts: dict[str, str]) -> BundleManifest:
    return BundleManifest.read(bundle).model_copy(update={"prompts": prompts})


@pytest.mark.parametrize("similarity", list(Similarity))
def test_similarities_are_those_of_sentence_transformers(similarity: Similarity) -> None:
    vectors = recorded()["layer_norm/none"]
    found = similarities(vectors, vectors[:2], similarity)
    np.testing.assert_allclose(found, recorded()[f"similarity/{similarity}"], atol=1e-5)


def test_hits_are_ranked_by_the_similarity_of_the_model(run: Run) -> None:
    finished = find_run(str(run.root))
    query = 3 * run.vectors["cat"] - run.vectors["dog"]
    for similarity in Similarity:
        expected = similarities(np.stack(list(run.vectors.values())), query[np.newaxis], similarity)[0]
        (own,) = nearest(finished, query[np.newaxis], 3, column="embedding", similarity=similarity)
        assert [hit.similarity for hit in own] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
        answer = Answer("q", [Hit(hit.similarity, {"doc_id": hit.doc_id}) for hit in own], None, similarity)
        assert list(json.loads(answer.as_json())["hits"][0]) == [similarity, "row"]


def test_what_a_person_sees(run: Run) -> None:
    flags = ("--where", "year < 2020", "--top", "2")
    code, stdout, _ = search(run.root, "--query", "the cat sat on the mat", *flags)
    assert (code, stdout) == (0, "the cat sat on the mat\n  1   1.000  cat  the cat sat on the mat\n")


def test_conditions_in_sql(run: Run) -> None:
    finished = find_run(str(run.root))
    query = run.vectors["cat"][np.newaxis]

    def found(sql: str) -> set[str]:
        condition = Condition(sql, run_schema(finished))
        (own,) = nearest(finished, query, 5, column="embedding", condition=condition)
        return {neighbour.doc_id for neighbour in own}

    assert found("topic = 'dogs'") == {"dog"}
    assert found("year >= 2020 AND text LIKE '%home%'") == {"dog", "time"}
    assert found("topic <> 'dogs'") == {"cat"}  # null is not true
    assert found('topic IS NULL OR "year" = 2019 -- a comment') == {"cat", "time"}
    assert found("true") == {"cat", "dog", "time"}
    assert found("year > 3000") == set()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("nothing = 1", "nothing"),
        ("year >", "syntax error"),
        ("topic", "not true or false"),
        ("doc_id IN (SELECT * FROM read_csv('/etc/passwd'))", "disabled"),
        ("doc_id IN (SELECT doc_id FROM run)", "run"),
        ("embedding[1] > 0", "embedding"),
        ("true); CREATE TABLE t (a INT); SELECT (true", "syntax error"),
        ("true) AS x FROM rows; ATTACH ':memory:' AS z; SELECT (true", "syntax error"),
        ("true; SELECT 1", "one"),
        ("true, false", "single expression"),
        ("true FROM range(3)", "FROM"),
        ("count(*) > 0", "WHERE clause cannot contain aggregates"),
        ("unnest([true, false])", "UNNEST not supported here"),
        ("*", "true or false"),
        ("", "SELECT clause without"),
    ],
)
def test_conditions_that_cannot_be_are_refused_with_the_columns(
    run: Run, condition: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Condition(condition, run_schema(find_run(str(run.root))))
    assert (
        "doc_id, source, text_sha256, num_tokens, was_truncated, num_unknown_tokens, text, topic, year"
        in str(caught.value)
    )


def test_a_condition_that_fails_on_a_value_is_told(run: Run) -> None:
    code, _, stderr = search(run.root, "--query", "x", "--where", "topic::INT > 1")
    assert code == 2
    assert "Could not convert" in stderr


def test_without_texts_the_flag_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", DOCUMENTS)
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source)
    assert "make it with --keep_text" in search(run.root, "--query", "a cat")[1]
    manifest = json.loads((run.root / "manifest.json").read_text())
    manifest["config"]["no_text"] = True
    (run.root / "manifest.json").write_text(json.dumps(manifest))
    assert "made with --no_text" in search(run.root, "--query", "a cat")[1]


def test_words_give_each_document_once_by_its_best_word(words: Run, tiny_bundle: Path) -> None:
    (answer,) = answers(words.root, "--query", "home", "--top", "3")
    query = Encoder(tiny_bundle, rows="word").encode(["home"])[0]
    cosines: dict[str, float] = {}
    for doc_id, vector in zip(words.column("doc_id"), words.column("embedding"), strict=True):
        cosine = float(np.dot(query, vector) / np.linalg.norm(query) / np.linalg.norm(vector))
        cosines[doc_id] = max(cosines.get(doc_id, -1), cosine)
    expected = sorted(cosines, key=lambda doc_id: -cosines[doc_id])
    assert [hit["row"]["doc_id"] for hit in answer["hits"]] == expected
    assert [hit["cosine"] for hit in answer["hits"]] == pytest.approx(
        [cosines[i] for i in expected], abs=1e-5
    )
    assert all(hit["row"]["word"] for hit in answer["hits"])


def test_windows_give_a_document_by_its_best_window(tiny_bundle: Path, tmp_path: Path) -> None:
    long = "the cat sat on the mat " * 12 + "quick brown dog ran home " * 12
    source = write_jsonl(
        tmp_path / "in.jsonl", [{"id": "long", "text": long}, {"id": "b", "text": "of time"}]
    )
    flags = ("--id_column", "id", "--keep_text", "--rows", "window", "--max_tokens", "20")
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, *flags)
    assert len(run.rows) > 5
    (answer,) = answers(run.root, "--query", "quick brown dog ran home quick brown dog ran home")
    best, other = answer["hits"]
    assert (best["row"]["doc_id"], other["row"]["doc_id"]) == ("long", "b")
    assert best["row"]["window_index"] > 0
    stdout = search(run.root, "--query", "quick brown dog ran home quick brown dog", "--top", "1")[1]
    assert "quick brown dog" in stdout
    assert "the mat" not in stdout.splitlines()[1]
    assert sum(run.manifest.counts.documents_by_tokens.values()) == 2


def test_questions_from_standard_input_load_the_model_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from beam_jobs.search import searcher

    made = []

    class Counted(searcher.QueryEncoder):
        def __init__(self, *args: Any) -> None:
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(searcher, "QueryEncoder", Counted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\n\n  \na dog\nfailword\ntime"))
    code, stdout, stderr = search(run.root, "--top", "1", "--format", "json")
    assert [json.loads(line)["query"] for line in stdout.splitlines()] == ["the cat", "a dog", "time"]
    assert code == 2
    assert "error:" in stderr
    assert len(made) == 1


def test_lines_are_answered_while_more_may_come() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "w", buffering=1) as pipe:
        groups = waiting_lines(stream)
        pipe.write("one\n")
        assert next(groups) == ["one"]
        threading.Timer(0.05, lambda: (pipe.write("two\n"), pipe.close())).start()
        assert next(groups) == ["two"]
        assert list(groups) == []
    assert max(len(group) for group in waiting_lines(io.StringIO("a\n" * 5), most=2)) <= 2


def test_another_bundle_is_refused_and_a_moved_one_is_found(
    run: Run, text_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    code, _, stderr = search(run.root, "--query", "x", "--bundle", text_bundle)
    assert code == 2
    assert "are not comparable" in stderr
    moved = tmp_path / "run"
    moved.mkdir()
    for path in run.root.rglob("*.*"):
        target = moved / path.relative_to(run.root)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    manifest = json.loads((moved / "manifest.json").read_text())
    manifest["bundle"]["place"] = str(tmp_path / "gone")
    (moved / "manifest.json").write_text(json.dumps(manifest))
    code, _, stderr = search(moved, "--query", "x")
    assert code == 2
    assert "name its folder with --bundle" in stderr
    assert answers(moved, "--query", "the cat", "--bundle", tiny_bundle)[0]["hits"]


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    assert search(run.root, "--query", "x", "--top", "0")[0] == 2
    assert "--query is empty" in search(run.root, "--query", " ")[2]
    assert "not nothing" in search(run.root, "--query", "x", "--column", "nothing")[2]
    assert "neither a run" in search(tmp_path, "--query", "x")[2]
    assert "unrecognized arguments: --tpo" in search(run.root, "--tpo", "3")[2]


def test_a_terminal_is_not_moved_by_texts(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a cat\n\x1b[2Jsat" + " on" * 500}])
    run_job(tmp_path / "out", tiny_bundle, "--input", source, "--keep_text")
    stdout = search(tmp_path / "out", "--query", "a cat")[1]
    assert "\x1b" not in stdout
    assert len(stdout.splitlines()) == 2
    assert stdout.endswith("…\n")


@settings(max_examples=examples(40), deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    shards=st.integers(1, 3),
    top=st.integers(1, 5),
    batch=st.integers(1, 7),
    seed=st.integers(0, 1000),
    num_ids=st.sampled_from([2, 5, 12]),
)
def test_nearest_equals_a_plain_search(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    shards: int,
    top: int,
    batch: int,
    seed: int,
    num_ids: int,
) -> None:
    """Documents of several windows, some of one id, files and batches of any size against one sorted list."""
    random = np.random.default_rng(seed)
    ids = [f"d{number % num_ids}" for number, count in enumerate(sizes) for _ in range(count)]
    vectors = random.normal(size=(len(ids), 3)).astype(np.float32)
    windows = [index for count in sizes for index in range(count)]
    ends = np.cumsum(sizes)[np.linspace(0, len(sizes) - 1, shards).astype(int)]
    cuts = sorted({0, *map(int, ends), len(ids)})
    parts = [
        {"ids": ids[a:b], "vectors": vectors[a:b], "window_index": windows[a:b], "group": 3}
        for a, b in pairwise(cuts)
    ]
    root = tmp_path_factory.mktemp("runs")
    run = find_run(str(make_run(root, "run", parts)))
    queries = random.normal(size=(2, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "beam_jobs.search.nearest.read_batches",
            lambda run, columns: read_batches(run, columns, batch_rows=batch),
        )
        found = nearest(run, queries, top, column="embedding")
    for query, own in zip(queries, found, strict=True):
        cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        best: dict[str, float] = {}
        for name, cosine in zip(ids, cosines, strict=True):
            best[name] = max(best.get(name, -2.0), float(cosine))
        expected = sorted(best.values(), reverse=True)[:top]
        assert [neighbour.similarity for neighbour in own] == pytest.approx(expected, abs=1e-5)
        assert len({neighbour.doc_id for neighbour in own}) == len(own)
        for neighbour in own:
            assert best[neighbour.doc_id] == pytest.approx(neighbour.similarity, abs=1e-5)


def test_many_near_rows_of_one_id_leave_others_their_place(tmp_path: Path) -> None:
    ids = [name for number in range(20) for name in ("a", f"d{number}")]
    angles = np.array([0.001 * at if name == "a" else 0.1 + 0.01 * at for at, name in enumerate(ids)])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    run = find_run(str(make_run(tmp_path, "run", [{"ids": ids, "vectors": vectors, "group": 40}])))
    (own,) = nearest(run, np.array([[1, 0]], np.float32), 3, column="embedding")
    assert [neighbour.doc_id for neighbour in own] == ["a", "d0", "d1"]
