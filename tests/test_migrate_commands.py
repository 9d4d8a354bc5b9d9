"""`service migrate` and its steps as an operator calls them: what they say, their status, and what they leave."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from service.db.leftovers import unfinished_indexes
from service.db.migrate import MigrationFailedError, NewerSchemaError, upgrade
from service.db.owner import as_owner
from service.domain.ids import new_id
from service.release import NEEDS, RELEASE
from tests.cli_calls import ROOT, SERVICE, Finished, environment, run
from tests.test_migrations import EVERY, Database, database
from tests.test_version_failures import FIXTURE

__all__ = ["database"]

ROWS = 20_000  # some seconds of backfill: enough to be killed in the middle
ANNOUNCED = "b2c91d64f0a3"  # the schema of 0.2.0
EXPANDED = "c3e8a2570b16"
ANNOUNCE = "insert into instances (id, kind, release) values ($1, 'api', $2)"
SCHEMA = """
    select attrelid::regclass::text, attname, atttypid::regtype::text, attnotnull from pg_attribute
    join pg_class c on c.oid = attrelid where relnamespace = 'public'::regnamespace
    union all select conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated from pg_constraint
    where connamespace = 'public'::regnamespace
    union all select '', revision, '', true from applied_migrations order by 1, 2
"""


async def migrate(database: Database, *words: str) -> Finished:
    return await run(
        *SERVICE, "migrate", *words, DATABASE_DIRECT_URL=database.direct_url, EMBEDDING_MODEL="hashing", COLUMNS="200"
    )


async def status(database: Database) -> dict[str, Any]:
    found = await migrate(database, "status", "--json")
    assert found.code == 0, found.said
    state: dict[str, Any] = json.loads(found.out)
    return state


async def applied(database: Database) -> set[str]:
    return {row["revision"] for row in await database.ask("select revision from applied_migrations")}


async def announce(database: Database, release: str) -> None:
    await database.ask(ANNOUNCE.replace("$1", f"'{new_id()}'").replace("$2", f"'{release}'"))


@pytest.fixture
async def filled(database: Database) -> Database:
    """The schema of 0.2.0 with versions that failed, all but the first."""
    await upgrade(database.direct_url, ANNOUNCED)
    await database.ask(FIXTURE.replace("$1", f"'{new_id()}'::uuid").replace("(1, 3)", f"(1, {ROWS})"))
    await database.ask("update embedding_profiles set name = 'hashing-384', dimension = 384")
    return database


async def test_an_empty_database_gets_everything_at_once_and_nothing_twice(database: Database) -> None:
    nothing, shown, planned = await asyncio.gather(
        migrate(database, "backfill"), migrate(database, "status"), migrate(database, "expand", "--dry-run")
    )
    assert (nothing.code, nothing.out.strip()) == (0, "No backfill is due.")
    assert (shown.code, shown.out.count(" left ")) == (0, len(EVERY))
    assert (planned.code, "CREATE TABLE tenants" in planned.out) == (0, True)
    assert await database.ask("select from pg_tables where schemaname = 'public'") == []

    for _ in range(2):
        ended = await migrate(database)
        assert (ended.code, ended.out.strip()) == (0, "The database is up to date.")
    assert await applied(database) == EVERY
    assert [row["name"] for row in await database.ask("select name from embedding_profiles")] == ["hashing-384"]


async def test_step_by_step_with_the_state_between(filled: Database) -> None:
    done = await migrate(filled, "expand")
    assert (done.code, "Expanded." in done.out) == (0, True)
    closed, state = await asyncio.gather(migrate(filled, "contract"), status(filled))
    assert (closed.code, closed.out) == (1, "")
    assert closed.err.strip().endswith(
        "the backfill version_failures is unfinished: run `service migrate backfill version_failures`"
    )
    assert [step["phase"] for step in state["steps"] if not step["applied"]] == ["contract"] * 3
    assert [(each["name"], each["state"]) for each in state["backfills"]] == [("version_failures", "due")]

    done = await migrate(filled, "backfill", "version_failures", "--share", "1")
    assert (done.code, done.out.strip()) == (0, f"version_failures: finished, {ROWS - 1:,} rows filled.")
    assert [each["state"] for each in (await status(filled))["backfills"]] == ["finished"]
    done = await migrate(filled, "contract")
    assert (done.code, done.out.strip()) == (0, "Contracted: the schema is what this release says.")
    state = await status(filled)

    assert {step["revision"] for step in state["steps"] if step["applied"]} == EVERY
    assert ([each["state"] for each in state["backfills"]], state["floor"]) == (["sealed"], "0.4.0")


async def test_a_dry_run_of_either_phase_changes_nothing(filled: Database) -> None:
    await announce(filled, "0.2.0")
    before = await filled.ask(SCHEMA)
    expand, contract = await asyncio.gather(
        migrate(filled, "expand", "--dry-run"), migrate(filled, "contract", "--dry-run")
    )

    assert (expand.code, contract.code) == (0, 0)
    assert (
        "ALTER TABLE document_versions ADD COLUMN failure JSONB;\n   -- ACCESS EXCLUSIVE on document_versions"
        in expand.out
    )
    assert "gate(op, oldest_release='0.3.0', backfills=['version_failures'])" in contract.out
    assert await filled.ask(SCHEMA) == before


async def test_a_gate_that_this_release_does_not_need_is_no_error(filled: Database) -> None:
    """0.3.0 still runs: 0.4.0 may start beside it, and the old columns stay for it."""
    await announce(filled, "0.3.0")
    ended = await migrate(filled)

    assert ended.code == 0, ended.said
    assert (
        "Left to do: every running instance must be of release 0.4.0 or newer, and there is: api of 0.3.0" in ended.out
    )
    assert NEEDS in await applied(filled)
    assert len(await applied(filled)) == len(EVERY) - 1


async def test_a_gate_before_what_this_release_needs_is_status_1(filled: Database) -> None:
    await announce(filled, "0.2.0")
    ended = await migrate(filled)

    assert ended.code == 1
    assert "of release 0.3.0 or newer, and there is: api of 0.2.0" in ended.out
    assert ended.err.strip() == f"Error: release {RELEASE} needs migration {NEEDS}, which this database has not seen."
    assert (await status(filled))["floor"] is None


async def test_contract_waits_for_a_gate_and_goes_on_when_it_opens(filled: Database) -> None:
    await announce(filled, "0.3.0")
    assert (await migrate(filled)).code == 0
    impatient = await migrate(filled, "contract")
    assert (impatient.code, "there is: api of 0.3.0" in impatient.err) == (1, True)
    waiting = asyncio.create_task(migrate(filled, "contract", "--wait", "60"))
    await asyncio.sleep(4)
    assert not waiting.done()
    await filled.ask("delete from instances")
    ended = await asyncio.wait_for(waiting, 30)

    assert ended.code == 0, ended.said
    assert await applied(filled) == EVERY


async def test_a_killed_backfill_goes_on_where_it_was(filled: Database) -> None:
    await upgrade(filled.direct_url, "expand@head")
    process = await asyncio.create_subprocess_exec(
        *SERVICE,
        *("migrate", "backfill", "--share", "0.1"),
        cwd=ROOT,
        env=environment({"DATABASE_DIRECT_URL": filled.direct_url}),
        stderr=asyncio.subprocess.DEVNULL,
    )
    while not await filled.ask("select from backfills where changed > 0"):
        assert process.returncode is None
        await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    (before,) = await filled.ask("select changed, finished_at from backfills")
    assert (0 < before["changed"] < ROWS - 1, before["finished_at"]) == (True, None)
    ended = await migrate(filled, "backfill", "--share", "1")

    assert ended.out.strip() == f"version_failures: finished, {ROWS - 1:,} rows filled."
    assert await filled.ask("select from document_versions where (status = 'failed') <> (failure is not null)") == []


async def test_an_unfinished_index_is_shown_and_goes_with_the_next_run(filled: Database) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await filled.ask("create unique index concurrently half_made on document_versions (document_id)")
    assert (await status(filled))["unfinished_indexes"] == ["half_made"]
    assert (await migrate(filled, "to", EXPANDED)).code == 0

    assert (await status(filled))["unfinished_indexes"] == []
    assert await filled.ask("select from pg_class where relname = 'half_made'") == []


async def test_an_index_that_somebody_is_building_is_left_to_them(filled: Database) -> None:
    """Whoever builds it logs in as another role, whose progress the owner may not see."""
    reader, builder = await asyncpg.connect(filled.url), await asyncpg.connect(filled.url)
    reading = reader.transaction(isolation="repeatable_read")
    await reading.start()
    await reader.fetch("select from document_versions limit 1")
    building = asyncio.create_task(builder.execute("create index concurrently half_made on document_versions (number)"))
    while not await filled.ask("select from pg_class where relname = 'half_made'"):  # noqa: ASYNC110  another process does it
        await asyncio.sleep(0.01)
    async with as_owner(filled.direct_url) as connection:
        assert await unfinished_indexes(connection) == []
    await reading.rollback()
    await building
    await upgrade(filled.direct_url, EXPANDED)

    assert [
        row["indisvalid"]
        for row in await filled.ask("select indisvalid from pg_index where indexrelid = 'half_made'::regclass")
    ] == [True]
    for each in (reader, builder):
        await each.close()


async def test_nothing_is_dropped_while_another_deployer_migrates(filled: Database) -> None:
    """An index that is invalid now may be whole when it is dropped."""
    with pytest.raises(asyncpg.UniqueViolationError):
        await filled.ask("create unique index concurrently half_made on document_versions (document_id)")
    other = await asyncpg.connect(filled.direct_url)
    await other.execute("select pg_advisory_lock(hashtext('alembic'))")
    waiting = asyncio.create_task(upgrade(filled.direct_url, EXPANDED))
    await asyncio.sleep(2)

    assert not waiting.done()
    assert len(await filled.ask("select from pg_class where relname = 'half_made'")) == 1
    await other.close()
    await waiting


async def test_an_older_release_leaves_a_newer_schema_alone(database: Database) -> None:
    """So that going back is starting the old release, with whatever it does before."""
    await upgrade(database.direct_url)
    await database.ask("update alembic_version set version_num = 'f0f0f0f0f0f0' where version_num = 'f6c2d80e1a49'")
    everything, expand, shown = await asyncio.gather(
        migrate(database), migrate(database, "expand"), migrate(database, "status")
    )
    assert (everything.code, everything.out.strip()) == (
        0,
        f"A newer release has migrated this database: nothing to do for release {RELEASE}.",
    )
    assert (expand.code, "f0f0f0f0f0f0 is no migration of this release" in expand.err) == (1, True)
    assert "Migrations of a newer release: f0f0f0f0f0f0" in shown.out
    await database.ask("update release_floor set release = '99.0.0'")
    refused = await migrate(database)

    assert (refused.code, refused.err.strip()) == (
        1,
        f"Error: the schema of this database needs release 99.0.0 or newer, and this is {RELEASE}.",
    )
    with pytest.raises(NewerSchemaError):
        await upgrade(database.direct_url, "contract@head")


async def test_what_postgres_says_to_a_migration_is_one_sentence(filled: Database) -> None:
    await filled.ask("alter table document_versions add column failure int")
    failed, nowhere = await asyncio.gather(migrate(filled, "expand"), migrate(filled, "to", "nobody"))

    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith('Error: a migration failed and is undone: column "failure" of relation')
    assert "ALTER TABLE document_versions ADD COLUMN failure" in failed.err
    assert (nowhere.code, "no migration is called 'nobody'" in nowhere.err) == (1, True)
    assert EXPANDED not in await applied(filled)
    with pytest.raises(MigrationFailedError):
        await upgrade(filled.direct_url)
