"""What only PostgreSQL has: types, rights, transactions, the index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs import open_run
from tests.support.runs.made_runs import make_run
from tests.support.stores.targets import PostgresTarget, bring, call, letters, rows_of, shards

pytestmark = pytest.mark.slow


@pytest.fixture
def target(request: pytest.FixtureRequest, postgres_url: str) -> PostgresTarget:
    """A database."""
    owner, name = PostgresTarget(postgres_url), f"own{abs(hash(request.node.name)) % 10**12}"
    owner.query(f"CREATE DATABASE {name}")
    return PostgresTarget(postgres_url.replace("/postgres?", f"/{name}?"))


def test_rows_that_did_not_change_stay_untouched(target: PostgresTarget, tmp_path: Path) -> None:
    query = "SELECT doc_id, xmin::text FROM embeddings"
    bring(target, make_run(tmp_path, "a", shards(letters("abcdefghijkl"))))
    before = dict(target.query(query))
    state = letters("abcdefghijkl") | letters("c", seed=1)
    state["k"] = (state["k"][0], "updated")
    bring(target, make_run(tmp_path, "b", shards(state)))
    after = dict(target.query(query))
    assert {name for name in after if after[name] != before[name]} == {"c", "k"}


def test_a_batch_is_all_or_nothing(
    target: PostgresTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away in the middle of COPY: documents that were deleted for it are there again."""
    from beam_jobs.sync.stores import postgres

    one = make_run(tmp_path, "a", shards(letters("abcdef")))
    bring(target, one)
    two = make_run(tmp_path, "b", shards(letters("abcdefg", seed=1)))
    original = postgres.copy_data

    def cut_off(*arguments: Any) -> Iterator[bytes]:
        yield from list(original(*arguments))[:-1]
        mine = "SELECT pid FROM pg_stat_activity WHERE application_name = 'beam_jobs.sync'"
        target.query(f"SELECT pg_terminate_backend(pid) FROM ({mine}) AS mine")
        yield b"\xff\xff"

    with monkeypatch.context() as patch:
        patch.setattr(postgres, "copy_data", cut_off)
        code, _, err = call(two, *target.to)
    assert code == 1
    assert "The batch was rolled back; the same command continues" in err
    assert target.rows() == rows_of(one)
    bring(target, two)


def test_an_index_of_the_distance_is_built_once_and_used(target: PostgresTarget, tmp_path: Path) -> None:
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'embeddings' AND indexdef LIKE '%hnsw%'"
    for state in ("abcdef", "abcdeg"):
        bring(target, make_run(tmp_path, state, shards(letters(state))), "--distance", "dot")
        ((index,),) = target.query(indexes)
        assert "USING hnsw (embedding vector_ip_ops)" in index
    target.query("ALTER ROLE owner SET enable_seqscan = off")  # three rows would be read faster
    found = target.query("EXPLAIN SELECT doc_id FROM embeddings ORDER BY embedding <#> '[1,2,3,4]' LIMIT 1")
    target.query("ALTER ROLE owner RESET enable_seqscan")
    assert "embeddings_embedding_idx" in str(found)


@pytest.mark.parametrize(("dim", "dtype", "has_index"), [(2001, "float32", False), (2001, "float16", True)])
def test_long_vectors(target: PostgresTarget, tmp_path: Path, dim: int, dtype: str, has_index: bool) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, dim))
    run = make_run(tmp_path, "a", [{"ids": ["a", "b", "c"], "vectors": vectors}], vector_dtype=dtype)
    code, _, err = call(run, *target.to)
    assert code == 0
    assert ("No index of embedding: pgvector's takes at most 2,000 numbers" in err) is not has_index
    assert target.rows() == rows_of(run)
    assert call(run, *target.to, "--check")[0] == 0


def test_every_type_of_a_kept_column(target: PostgresTarget, tmp_path: Path) -> None:
    noon = datetime(1969, 7, 20, 12, 0, 0, 123456, tzinfo=UTC)
    kept: dict[str, Any] = {
        "b": pa.array([True, None, False]),
        "i8": pa.array([-5, None, 7], pa.int8()),
        "i32": pa.array([-(2**31), None, 2**31 - 1], pa.int32()),
        "u32": pa.array([2**32 - 1, None, 0], pa.uint32()),
        "i64": pa.array([-(2**63), None, 2**63 - 1]),
        "f32": pa.array([0.1, None, float("inf")], pa.float32()),
        "f64": pa.array([0.1, None, -1e300]),
        "s": pa.array(["ü", None, ""]),
        "raw": pa.array([b"\0\xff", None, b""]),
        "d": pa.array([date(1969, 7, 20), None, date(2026, 1, 1)]),
        "t": pa.array([noon.replace(tzinfo=None), None, None], pa.timestamp("us")),
        "tz": pa.array([noon.replace(microsecond=5000), None, None], pa.timestamp("ms", "UTC")),
        'Upper "case"': pa.array(["x", None, "y"]),
    }
    as_json = {
        "u64": pa.array([2**64 - 1, None, 0], pa.uint64()),
        "l": pa.array([["a", None], None, []]),
        "st": pa.array([{"x": 1, "y": "ü"}, None, {"x": 2, "y": None}]),
        "dec": pa.array([Decimal("1.50"), None, Decimal("2.25")]),
    }
    shard = {"ids": ["a", "b", "c"], "vectors": np.ones((3, 4)), **kept, **as_json}
    run = make_run(tmp_path, "a", [shard])
    assert call(run, *target.to)[0] == 0
    expected = rows_of(run)
    for row in expected:
        if row["dec"] is not None:
            row["dec"] = str(row["dec"])
    found = target.rows()
    assert json.loads(json.dumps(found, default=str)) == json.loads(json.dumps(expected, default=str))
    assert call(make_run(tmp_path, "b", [shard]), *target.to)[1].count(" 0 rows written") == 1
    assert open_run(run).schema.names == list(found[0])


def test_missing_rights_are_named_before_anything_is_written(target: PostgresTarget, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", shards(letters("abc")))
    other = make_run(tmp_path, "b", shards(letters("abd")))
    if not target.query("SELECT 1 FROM pg_roles WHERE rolname = 'guest'"):
        target.query("CREATE ROLE guest LOGIN")
    guest = target.url.replace("owner@", "guest@")
    code, _, err = call(run, "--to", guest)
    assert code == 2
    assert "the user guest lacks CREATE on the schema public. Nothing was written." in err
    target.query("CREATE SCHEMA guests AUTHORIZATION guest")
    code, _, err = call(run, "--to", guest, "--table", "guests.news")
    assert code == 2
    assert "permission denied to create extension" in err
    assert target.query("SELECT 1 FROM pg_tables WHERE schemaname = 'guests'") == []
    target.query("CREATE EXTENSION vector")
    assert call(run, "--to", guest, "--table", "guests.news")[0] == 0
    assert target.rows("guests.news") == rows_of(run)
    bring(target, run)
    target.query("GRANT SELECT ON embeddings, beam_jobs_sync TO guest")
    before = target.state()
    code, _, err = call(other, "--to", guest)
    assert code == 2
    for right in ('INSERT on "public"."embeddings"', "DELETE on", 'UPDATE on "public"."beam_jobs_sync"'):
        assert right in err
    assert target.state() == before
    assert call(run, "--to", guest, "--check")[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("/own", "/nothing"), "does not exist"),
        (("owner@", "stranger@"), 'role "stranger" does not exist'),
        (("host=/tmp", "host=/nowhere"), "No connection to PostgreSQL"),
        (("?host", "?hots"), "invalid URI query parameter"),
        (("@/", "@127.0.0.1:1/"), "No connection to PostgreSQL"),
    ],
)
def test_a_wrong_address(target: PostgresTarget, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    url = target.url.replace(*change) if "127" not in change[1] else "postgresql://u:secret@127.0.0.1:1/x"
    code, _, err = call(make_run(tmp_path, "a", shards(letters("abc"))), "--to", url)
    assert code == 2
    assert said in err
    assert "secret" not in err
    assert "Nothing was written" in err
    assert len(err.strip().splitlines()) == 1


def test_other_columns_and_indexes_stay(target: PostgresTarget, tmp_path: Path) -> None:
    bring(target, make_run(tmp_path, "a", shards(letters("abc"))))
    target.query("ALTER TABLE embeddings ADD COLUMN seen integer DEFAULT 7")
    assert call(make_run(tmp_path, "b", shards(letters("abd"))), *target.to)[0] == 0
    assert [row["seen"] for row in target.rows()] == [7, 7, 7]
    target.query("ALTER TABLE embeddings DROP COLUMN topic")
    code, _, err = call(make_run(tmp_path, "c", shards(letters("abe"))), *target.to)
    assert code == 2
    assert "lacks columns that a sync gave it: topic" in err


def test_a_text_that_it_cannot_store(target: PostgresTarget, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", shards({"a": (1, "x\0y")}))
    code, _, err = call(run, *target.to)
    assert code == 1
    assert "invalid byte sequence" in err
