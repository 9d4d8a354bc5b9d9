"""The change of `document_versions.failure`, step by step on rows: what each release writes is read by its neighbours."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.db.backfill import fill, find_backfill
from service.db.migrate import upgrade
from service.domain.ids import new_id
from service.domain.releases import GateClosedError
from tests.test_migrations import Database, database, run

__all__ = ["database"]

FIXTURE = """
with t as (insert into tenants (id, name) values ($1, $1::text)),
p as (insert into embedding_profiles (id, name, dimension) values ($1, $1::text, 3)),
c as (insert into collections (id, tenant_id, name, language, profile_id) values ($1, $1, 'c', 'english', $1)),
d as (insert into documents (id, collection_id) values ($1, $1))
insert into document_versions
  (document_id, number, collection_id, content_type, size, sha256, text, status, error_code, error_message)
select $1, n, $1, 'text/plain', 1, '', 'x', case n when 1 then 'indexed' else 'failed' end,
  case when n > 1 then 'too_large' end, case when n = 2 then 'in words' end
from generate_series(1, 3) n
"""
FAILURE = "select number, failure from document_versions order by number"


@pytest.fixture
async def old(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """As release 0.2.0 left it: an indexed version, a failed one, and one that failed without a message."""
    await upgrade(database.direct_url, "b2c91d64f0a3")
    connection = await asyncpg.connect(database.url)
    await connection.execute(FIXTURE.replace("$1", f"'{new_id()}'::uuid"))
    yield connection
    await connection.close()


async def failures(connection: asyncpg.Connection) -> dict[int, str | None]:
    return {row["number"]: row["failure"] for row in await connection.fetch(FAILURE)}


async def test_old_rows_are_filled_and_then_sealed(database: Database, old: asyncpg.Connection) -> None:
    await upgrade(database.direct_url, "expand@head")
    assert set((await failures(old)).values()) == {None}
    with pytest.raises(GateClosedError, match="the backfill version_failures is unfinished"):
        await upgrade(database.direct_url, "contract@head")
    async for _ in fill(database.direct_url, find_backfill("version_failures")):
        pass
    assert await failures(old) == {
        1: None,
        2: '{"code": "too_large", "message": "in words"}',
        3: '{"code": "too_large", "message": ""}',
    }
    await upgrade(database.direct_url, "e5a1b27c9d38")

    (check,) = await database.ask("select convalidated from pg_constraint where conname like '%failed_with_failure'")
    assert check["convalidated"]
    with pytest.raises(asyncpg.CheckViolationError, match="failed_with_failure"):
        await old.execute("update document_versions set status = 'failed', error_code = 'x' where number = 1")


async def test_what_the_release_before_writes_is_copied_until_it_is_gone(
    database: Database, old: asyncpg.Connection
) -> None:
    await upgrade(database.direct_url, "expand@head")
    await old.execute(
        "update document_versions set status = 'failed', error_code = 'a', error_message = 'b' where number = 1"
    )
    await old.execute(
        "update document_versions set status = 'pending', error_code = null, error_message = null where number = 2"
    )

    assert await failures(old) == {1: '{"code": "a", "message": "b"}', 2: None, 3: None}


async def test_what_a_newer_release_writes_is_left_as_it_is(database: Database, old: asyncpg.Connection) -> None:
    await upgrade(database.direct_url, "expand@head")
    await old.execute(
        "update document_versions set status = 'failed', error_code = 'a', error_message = 'b',"
        """ failure = '{"code": "a", "message": "b", "page": 3}' where number = 1"""
    )

    assert (await failures(old))[1] == '{"code": "a", "page": 3, "message": "b"}'


async def test_it_goes_down_and_up_again(database: Database, old: asyncpg.Connection) -> None:
    await upgrade(database.direct_url, "expand@head")
    await run(database, "downgrade", "b2c91d64f0a3")
    await upgrade(database.direct_url, "expand@head")

    assert (await failures(old)).keys() == {1, 2, 3}
