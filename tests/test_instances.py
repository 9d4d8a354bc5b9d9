"""Who runs is known to a migration, and what a migration has made impossible does not start."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from service.db import instances
from service.db.gates import gate
from service.db.instances import announced, forget_instances
from service.db.owner import as_owner
from service.domain.releases import GateClosedError, ReleaseRefusedError, order
from service.release import NEEDS, RELEASE
from service.resources import Resources
from tests.cli_calls import ROOT
from tests.search_calls import direct_url
from tests.worker_calls import until


@pytest.fixture(autouse=True)
async def alone(admin: asyncpg.Connection) -> AsyncIterator[None]:
    """The app of the test's own resources is of no concern here."""
    await admin.execute("delete from instances; delete from release_floor")
    yield
    await admin.execute("delete from instances; delete from release_floor")


async def pass_gate(resources: Resources, **asked: Any) -> None:
    """In a transaction of the owner, as a migration does."""

    def migrate(connection: Connection) -> None:
        gate(Operations(MigrationContext.configure(connection)), **asked)

    async with as_owner(direct_url(resources)) as connection:
        await connection.run_sync(migrate)


def test_releases_are_ordered_by_their_numbers() -> None:
    assert order("0.10.0") > order("0.9.1") > order("0.9")


def test_the_release_is_the_one_of_the_package() -> None:
    assert f'\nversion = "{RELEASE}"\n' in (ROOT / "pyproject.toml").read_text()


async def test_an_instance_is_listed_while_it_runs(resources: Resources, admin: asyncpg.Connection) -> None:
    async with announced(resources.primary, "worker"):
        row = await admin.fetchrow("select kind, release from instances")
        assert tuple(row) == ("worker", RELEASE)

    assert await admin.fetchval("select count(*) from instances") == 0


async def test_it_shows_a_sign_of_life_and_comes_back_when_it_was_taken_for_dead(
    resources: Resources, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "BEAT_SECONDS", 0.05)
    async with announced(resources.primary, "api"):
        first = await admin.fetchval("select seen_at from instances")
        assert await until(lambda: admin.fetchval("select seen_at > $1 from instances", first))
        await admin.execute("delete from instances")
        assert await until(lambda: admin.fetchval("select count(*) = 1 from instances"))


async def test_a_gate_is_closed_while_an_older_release_runs(resources: Resources, admin: asyncpg.Connection) -> None:
    async with (
        announced(resources.primary, "api", release="0.2.9"),
        announced(resources.primary, "worker", release="0.3.0"),
    ):
        with pytest.raises(GateClosedError, match=r"0\.3\.0 or newer, and there is: api of 0\.2\.9, seen \d s ago"):
            await pass_gate(resources, oldest_release="0.3.0")
        assert await admin.fetchval("select count(*) from release_floor") == 0
    await pass_gate(resources, oldest_release="0.3.0")

    assert await admin.fetchval("select release from release_floor") == "0.3.0"


async def test_what_was_killed_counts_as_gone_after_half_a_minute(
    resources: Resources, admin: asyncpg.Connection
) -> None:
    for silent, is_open in ((25, False), (35, True)):
        async with announced(resources.primary, "api", release="0.1.0"):
            await admin.execute("update instances set seen_at = now() - make_interval(secs => $1)", float(silent))
            if is_open:
                await pass_gate(resources, oldest_release="0.2.0")
            else:
                with pytest.raises(GateClosedError):
                    await pass_gate(resources, oldest_release="0.2.0")


async def test_behind_a_gate_no_older_release_starts(resources: Resources, admin: asyncpg.Connection) -> None:
    await pass_gate(resources, oldest_release="0.3.0")
    await pass_gate(resources, oldest_release="0.2.0")  # A later gate does not let older ones in again.

    with pytest.raises(ReleaseRefusedError, match=r"needs release 0\.3\.0 or newer, and this is 0\.2\.9"):
        async with announced(resources.primary, "api", release="0.2.9"):
            pass
    assert await admin.fetchval("select count(*) from instances") == 0
    async with announced(resources.primary, "api", release="0.3.0"):
        assert await admin.fetchval("select count(*) from instances") == 1


async def test_who_starts_during_the_migration_waits_and_is_refused(resources: Resources) -> None:
    async def start() -> None:
        async with announced(resources.primary, "api", release="0.2.0"):
            pass

    async with as_owner(direct_url(resources)) as connection:
        await connection.run_sync(
            lambda sync: gate(Operations(MigrationContext.configure(sync)), oldest_release="0.3.0")
        )
        starting = asyncio.create_task(start())
        await asyncio.sleep(0.3)
        assert not starting.done()
    with pytest.raises(ReleaseRefusedError):
        await starting


async def test_behind_an_open_gate_heartbeats_go_on(resources: Resources, admin: asyncpg.Connection) -> None:
    """Of a long migration, such as one that validates: the gate before it has left its floor."""
    await pass_gate(resources, oldest_release="0.3.0")
    async with announced(resources.primary, "api", release="0.3.0"), as_owner(direct_url(resources)) as connection:
        await connection.run_sync(
            lambda sync: gate(Operations(MigrationContext.configure(sync)), oldest_release="0.3.0")
        )
        await admin.execute("set lock_timeout = '500ms'")
        assert await admin.execute("update instances set seen_at = now()") == "UPDATE 1"
        await admin.execute("set lock_timeout = 0")


async def test_a_release_does_not_start_before_what_it_needs(resources: Resources, admin: asyncpg.Connection) -> None:
    with pytest.raises(ReleaseRefusedError, match="needs migration 0badcafe"):
        async with announced(resources.primary, "api", needs="0badcafe"):
            pass
    await admin.execute("alter table applied_migrations rename to hidden")  # As before they were listed.
    try:
        with pytest.raises(ReleaseRefusedError, match=f"needs migration {NEEDS}"):
            async with announced(resources.primary, "api"):
                pass
    finally:
        await admin.execute("alter table hidden rename to applied_migrations")


async def test_on_a_folder_that_is_held_nothing_runs(resources: Resources, admin: asyncpg.Connection) -> None:
    async with announced(resources.primary, "api"), as_owner(direct_url(resources)) as connection:
        await forget_instances(connection)

    assert await admin.fetchval("select count(*) from instances") == 0
