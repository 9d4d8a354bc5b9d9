"""A branch is the whole of its parent, which does not notice."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import psutil
import pytest

from service.branches.base import Addresses
from service.branches.dump import sentence
from service.branches.postgres import PostgresBranches, of_database
from service.db.branching import LONGEST, database_of, draft_of
from service.db.owner import OWNER, WrongRoleError
from service.db.roles import APPLICATION, SEARCHER, identifier
from service.domain.branches import (
    PRIMARY,
    BranchError,
    Note,
    UnknownBranchError,
    WrongPrefixError,
    check_name,
    object_prefix,
    owns,
)
from service.domain.errors import UnavailableError
from service.domain.ids import new_id
from service.settings import Settings
from tests.api_calls import Api
from tests.branch_calls import (
    a_primary,
    branches_of,
    inside,
    name_in,
    on_branch,
    resources_of,
    rows_of,
    running,
    schema_of,
    serving,
)
from tests.cli_calls import ROOT, SERVICE, environment, run
from tests.stacks import Stack
from tests.worker_calls import environment_of, until, until_idle, working_with

NAME = "preview/pr-12"


@pytest.fixture
async def primary(stack: Stack, template: str, settings: Settings) -> AsyncIterator[Settings]:
    """Nobody is connected to it."""
    async with a_primary(stack, template, settings) as own:
        yield own


@pytest.fixture
def branches(stack: Stack, primary: Settings) -> PostgresBranches:
    return branches_of(stack, primary)


async def fill(stack: Stack, database: str) -> None:
    """A tenant and collection with rights and settings of the database that only somebody's own hand gave it."""
    async with inside(stack, database) as connection:
        name = identifier(database)
        await connection.execute("insert into tenants (id, name) values ($1, 'kept')", new_id())
        await connection.execute(f"revoke temporary on database {name} from public")
        await connection.execute(f"grant temporary on database {name} to {APPLICATION}")
        await connection.execute(f"alter database {name} set statement_timeout = '77s'")
        await connection.execute(f'alter database {name} set search_path = public, "$user"')
        await connection.execute(f"alter role {SEARCHER} in database {name} set work_mem = '9MB'")


@pytest.mark.parametrize("way", ["template", "dump"])
async def test_a_branch_has_the_rows_schema_rights_and_settings_of_its_parent(
    way: str, stack: Stack, primary: Settings
) -> None:
    database = name_in(primary.database_url)
    await fill(stack, database)
    branches = branches_of(stack, primary, way=way)  # type: ignore[arg-type]
    copied = await branches.create(NAME)
    branch = database_of(database, NAME)

    assert copied.branch.way == "dump" if way == "dump" else copied.branch.way in {"template copy", "copy-on-write"}
    assert (copied.branch.name, copied.branch.parent, copied.branch.state) == (NAME, PRIMARY, "ready")
    assert await schema_of(stack, branch) == await schema_of(stack, database)
    rows = await rows_of(stack, database)
    assert rows["tenants"][0] == 1
    assert await rows_of(stack, branch) == rows
    assert await rights_of(stack, branch) == await rights_of(stack, database)
    async with inside(stack, branch) as connection:
        assert await connection.fetchval("show statement_timeout") == "77s"
        assert await connection.fetchval("show search_path") == 'public, "$user"'
        assert (
            await connection.fetchval("select count(*) from pg_stats where schemaname = 'public'") > 0 or way != "dump"
        )


@pytest.mark.parametrize("way", ["template", "dump"])
async def test_a_branch_sorts_and_folds_as_its_parent_does(way: str, stack: Stack, primary: Settings) -> None:
    name = f"{name_in(primary.database_url)}@other"
    async with inside(stack, "postgres") as admin:
        locale = "locale_provider builtin builtin_locale 'C' lc_collate 'C' lc_ctype 'C' encoding 'UTF8'"
        await admin.execute(f"create database {identifier(name)} template template0 owner {OWNER} {locale}")
    direct = of_database(primary.database_url.get_secret_value(), name)
    odd = replace(
        branches_of(stack, primary, way=way),  # type: ignore[arg-type]
        addresses=Addresses(database_url=direct, search_database_url=direct),
    )
    await odd.create("b")

    made_of, made = [(await rights_of(stack, each))[0][:6] for each in (name, database_of(name, "b"))]
    assert made == made_of
    assert made[2:] == (b"b", "C", "C", "C")


async def rights_of(stack: Stack, database: str) -> list[tuple[Any, ...]]:
    asked = """
        select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype, datlocale,
               (select array_agg(a::text order by a::text) from aclexplode(datacl) a),
               (select array_agg((setrole, setconfig)::text order by setrole) from pg_db_role_setting where setdatabase = d.oid)
        from pg_database d where datname = $1"""
    async with inside(stack, database) as connection:
        row = tuple(await connection.fetchrow(asked, database))
        extensions = await connection.fetch("select extname, extversion, extowner from pg_extension order by 1")
    assert row[0] == OWNER
    return [row, *(tuple(each) for each in extensions)]


async def test_a_branch_of_a_running_service_leaves_every_connection_and_request_alone(
    stack: Stack, primary: Settings
) -> None:
    branches = branches_of(stack, primary)
    async with serving(primary) as (api, _):
        collection = await api.make_collection()
        await api.make_document(collection, wait=None, text="growling bears")
        before = await sessions_of(stack, name_in(primary.database_url))
        making = asyncio.create_task(branches.create(NAME))
        answers = []
        while not making.done():
            answers.append((await api.client.get(f"/v1/collections/{collection}/documents")).status_code)
            answers.append((await api.put(collection, str(uuid4()), {"text": "during"})).status_code)
        copied = await making
        after = await sessions_of(stack, name_in(primary.database_url))

    assert copied.branch.way == "dump"
    assert "connections to the parent, which stay" in copied.why
    assert len(answers) > 2
    assert set(answers) <= {200, 201, 202}
    assert before
    assert before <= after


async def sessions_of(stack: Stack, database: str) -> set[int]:
    asked = "select pid from pg_stat_activity where datname = $1 and backend_type = 'client backend' and usename like 'hybrid%'"
    async with inside(stack, "postgres") as connection:
        return {row["pid"] for row in await connection.fetch(asked, database)}


async def test_a_service_runs_on_a_branch_with_the_parents_key_and_the_parent_does_not_see_what_it_writes(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    async with serving(primary) as (api, key):
        collection = await api.make_collection()
        await index(stack, primary, api, (collection, "kept"), text="growling bears")
        await branches.create(NAME)
        own = await on_branch(branches, primary, NAME)
        async with serving(own, key) as (there, _):
            await index(stack, own, there, (collection, "new"), text="sleeping bears")
            found = await there.client.post(f"/v1/collections/{collection}/search", json={"query": "bears"})
        here = await api.client.post(f"/v1/collections/{collection}/search", json={"query": "bears"})

    assert {hit["external_id"] for hit in found.json()["hits"]} == {"kept", "new"}
    assert {hit["external_id"] for hit in here.json()["hits"]} == {"kept"}


async def index(stack: Stack, settings: Settings, api: Api, place: tuple[str, str], *, text: str) -> None:
    resources = resources_of(api)
    async with inside(stack, name_in(settings.database_url)) as admin, working_with(resources)():
        await api.put(*place, {"text": text})
        await until_idle(admin)


async def test_what_runs_in_the_parent_does_not_run_in_the_branch(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    database = name_in(primary.database_url)
    async with inside(stack, database) as connection:
        await connection.execute(
            """insert into jobs (id, kind, state, payload, attempt, run_at, lease_until, lease_token)
               values ($1, 'delete_blobs', 'running', '{"keys": []}', 1, now(), now() + interval '1 hour', $1)""",
            new_id(),
        )
        has_instances = await connection.fetchval("select to_regclass('instances') is not null")
        if has_instances:
            await connection.execute(
                "insert into instances (id, kind, release, started_at, seen_at) values ($1, 'api', '0.1.0', now(), now())",
                new_id(),
            )
    await branches.create(NAME)
    async with inside(stack, database_of(database, NAME)) as connection:
        assert await connection.fetchval("select state from jobs") == "queued"
        assert not has_instances or await connection.fetchval("select count(*) from instances") == 0
    async with inside(stack, database) as connection:
        assert await connection.fetchval("select state from jobs") == "running"


async def test_of_two_who_make_a_branch_at_once_one_does(branches: PostgresBranches) -> None:
    done = await asyncio.gather(*(branches.create(NAME) for _ in range(4)), return_exceptions=True)
    refused = [str(each) for each in done if isinstance(each, BaseException)]

    assert len(refused) == 3
    assert all("by somebody else: wait for it" in words or "already: reset it" in words for words in refused), refused
    assert [each.name for each in await branches.list()] == [PRIMARY, NAME]
    assert [each.state for each in await branches.list()] == ["ready", "ready"]


async def test_different_branches_are_made_at_once(branches: PostgresBranches) -> None:
    await asyncio.gather(*(branches.create(name) for name in ("one", "two", "three")))

    assert {each.name for each in await branches.list()} == {PRIMARY, "one", "two", "three"}


async def test_a_branch_whose_maker_is_killed_is_never_a_good_one_and_goes_with_the_next_command(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    database = name_in(primary.database_url)
    draft = draft_of(database, NAME)
    variables = environment_of(primary) | {"DATABASE_ADMIN_URL": stack.postgres.url()}
    async with inside(stack, database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("lock table tenants in access exclusive mode")  # The dump waits behind it.
        process = await asyncio.create_subprocess_exec(
            *(*SERVICE, "branch", "create", NAME),
            cwd=ROOT,
            env=environment(variables),
            stdout=asyncio.subprocess.DEVNULL,
        )

        async def waiting() -> bool:
            return bool(await connection.fetchval("select count(*) from pg_locks where not granted"))

        await until(waiting, 60)
        (_, making) = await branches.list()
        with pytest.raises(BranchError, match="by somebody else"):
            await branches.create(NAME)
        copying = psutil.Process(process.pid).children(recursive=True)
        assert {each.name() for each in copying} >= {"pg_dump", "pg_restore"}
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()

        async def ended() -> bool:
            return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in copying)

        await until(ended, 3)  # A restore would write into the next draft. The dump alone would wait for ten seconds.

        async def dead() -> bool:
            return [each.state for each in await branches.list()] == ["ready", "half-made"]

        await until(dead)
        with pytest.raises(UnknownBranchError, match="is half-made"):
            await branches.uri(NAME)
        await transaction.rollback()
        assert (making.name, making.state) == (NAME, "being made")

        await branches.create(NAME)
        assert [(each.name, each.state) for each in await branches.list()] == [(PRIMARY, "ready"), (NAME, "ready")]
        assert not await connection.fetchval("select count(*) from pg_database where datname = $1", draft)


async def test_what_is_half_made_can_be_deleted(stack: Stack, primary: Settings, branches: PostgresBranches) -> None:
    database = name_in(primary.database_url)
    async with inside(stack, "postgres") as admin:
        await admin.execute(f"create database {identifier(draft_of(database, NAME))}")  # killed before it had a note
        assert [each.state for each in await branches.list()] == ["ready", "half-made"]
        await branches.delete(NAME)

    assert [each.name for each in await branches.list()] == [PRIMARY]


async def test_reset_is_the_parents_present_state_under_the_same_name_and_expiry(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    database = name_in(primary.database_url)
    expires_at = datetime.now(UTC) + timedelta(days=14)
    made = await branches.create(NAME, expires_at=expires_at)
    async with inside(stack, database_of(database, NAME)) as connection:
        await connection.execute("insert into tenants (id, name) values ($1, 'only here')", new_id())
        await connection.execute("drop table lexeme_frequencies cascade")
    async with inside(stack, database) as connection:
        await connection.execute("insert into tenants (id, name) values ($1, 'later')", new_id())
    reset = await branches.reset(NAME)

    assert await rows_of(stack, database_of(database, NAME)) == await rows_of(stack, database)
    assert reset.branch.expires_at == expires_at
    assert reset.branch.created_at is not None
    assert made.branch.created_at is not None
    assert reset.branch.created_at > made.branch.created_at


async def test_a_reset_that_fails_leaves_the_branch_as_it_was(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    database = name_in(primary.database_url)
    await branches.create(NAME)
    async with inside(stack, database_of(database, NAME)) as connection:
        await connection.execute("insert into tenants (id, name) values ($1, 'only here')", new_id())
    wrong = replace(branches, way="dump", admin_url=branches.admin_url)
    async with inside(stack, database) as connection:
        # A restore cannot make this twice.
        await connection.execute("create function broken() returns int language sql as 'select 1'")
        await connection.execute("create view needs as select broken()")
        await connection.execute("set check_function_bodies = off")
        await connection.execute("create materialized view fails as select 1 / broken() as one")
        await connection.execute("create or replace function broken() returns int language sql as 'select 0'")
    with pytest.raises(BranchError, match="division by zero"):
        await wrong.reset(NAME)

    async with inside(stack, database_of(database, NAME)) as connection:
        assert await connection.fetchval("select count(*) from tenants where name = 'only here'") == 1
    assert [(each.name, each.state) for each in await branches.list()] == [(PRIMARY, "ready"), (NAME, "ready")]


async def test_what_must_stay_is_not_deleted_and_not_reset(branches: PostgresBranches) -> None:
    await branches.create("guarded", protected=True)
    await branches.create("parent")
    await branches.create("child", parent="parent")
    refusals = {
        PRIMARY: "is the primary",
        "guarded": "is protected",
        "parent": "delete child first",
        "nobody": "no branch",
    }
    for name, words in refusals.items():
        for change in (branches.delete, branches.reset):
            with pytest.raises(BranchError, match=words):
                await change(name)

    assert len(await branches.list()) == 4
    await branches.delete("child")
    await branches.delete("parent")
    assert [each.name for each in await branches.list()] == [PRIMARY, "guarded"]


async def test_deleting_ends_whoever_is_connected_to_the_branch_and_nobody_else(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    database = name_in(primary.database_url)
    await branches.create(NAME)
    async with inside(stack, database) as of_parent:
        of_branch = await asyncpg.connect(stack.postgres.url(database=database_of(database, NAME)))
        await branches.delete(NAME)

        assert await of_parent.fetchval("select 1") == 1
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await of_branch.fetchval("select 1")


async def test_a_database_that_only_looks_like_a_branch_is_let_alone(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    theirs = database_of(name_in(primary.database_url), NAME)
    async with inside(stack, "postgres") as admin:
        await admin.execute(f"create database {identifier(theirs)}")
        with pytest.raises(BranchError, match="which is no branch"):
            await branches.create(NAME)
        with pytest.raises(UnknownBranchError):
            await branches.delete(NAME)

        assert [each.name for each in await branches.list()] == [PRIMARY]
        assert await admin.fetchval("select count(*) from pg_database where datname = $1", theirs) == 1


def test_a_branchs_database_says_its_name_and_no_two_have_the_same() -> None:
    assert database_of("service", NAME) == "service@preview/pr-12"
    long, other = "a" * 200, "a" * 199 + "b"
    databases = {database_of("service", name) for name in (NAME, "preview", long, other, "a" * 55, "a" * 54)}
    drafts = {draft_of("service", name) for name in (NAME, long, other)}

    assert len(databases) == 6
    assert all(len(each.encode()) <= LONGEST for each in databases | drafts)
    assert len(drafts) == 3
    assert not databases & drafts
    with pytest.raises(BranchError, match="too long a name"):
        database_of("x" * 60, "one")


async def test_a_long_name_comes_back_whole(branches: PostgresBranches) -> None:
    long = "dependabot/npm_and_yarn/" + "very-" * 20 + "1.2.3"
    await branches.create(long)

    assert [each.name for each in await branches.list()] == [PRIMARY, long]
    await branches.delete(long)


@pytest.mark.parametrize(
    "name", ["", "/", "a//b", "a/", "/a", "a b", "a/_/b", "_", "..", "a/../b", "a~b", "a@b", "é", "a" * 257, PRIMARY]
)
def test_a_name_that_cannot_be_kept_apart_is_refused(name: str) -> None:
    with pytest.raises(BranchError):
        check_name(name)


@pytest.mark.parametrize("own", ["", "production/"])
def test_no_prefix_owns_the_objects_of_another(own: str) -> None:
    names = [PRIMARY, "preview", "preview/pr-1", "preview/pr-12", "branches", "branches/preview"]
    prefixes = [object_prefix(own, name) for name in names]
    keys = [f"{prefix}{uuid4()}/{uuid4()}/1/{uuid4()}" for prefix in prefixes]

    assert [[owns(prefix, key) for key in keys] for prefix in prefixes] == [
        [one == other for other in names] for one in names
    ]


async def test_a_service_does_not_start_on_a_branch_with_the_objects_of_another(
    primary: Settings, branches: PostgresBranches
) -> None:
    await branches.create(NAME)
    own = await on_branch(branches, primary, NAME)
    parents = own.model_copy(update={"s3_prefix": primary.s3_prefix})
    branchs = primary.model_copy(update={"s3_prefix": own.s3_prefix})
    for wrong, words in ((parents, "service branch uri preview/pr-12"), (branchs, "this database is no branch")):
        with pytest.raises(WrongPrefixError, match=words):
            async with running(wrong):
                pass
        swept = await run(*SERVICE, "blobs", "sweep", "--whole-bucket", **environment_of(wrong))
        assert swept.code == 1
        assert words in swept.err
    async with running(own):
        pass


async def test_the_commands_make_a_branch_that_env_runs_a_service_on(stack: Stack, primary: Settings) -> None:
    variables = environment_of(primary) | {"DATABASE_ADMIN_URL": stack.postgres.url(), "PORT": "8000"}
    made = await run(*SERVICE, "branch", "create", NAME, "--expires-in-hours", "0", **variables)
    again = await run(*SERVICE, "branch", "create", NAME, **variables)
    written = await run(*SERVICE, "branch", "uri", NAME, **variables)
    as_json = await run(*SERVICE, "branch", "uri", NAME, "--format", "json", **variables)
    inner = 'env $("$0" -m service branch uri preview/pr-12) "$0" -c \'import os; print(os.environ["S3_PREFIX"])\''
    shell = await run("sh", "-c", inner, sys.executable, **variables)
    listed = await run(*SERVICE, "branch", "list", "--json", **variables)
    reset = await run(*SERVICE, "branch", "reset", NAME, **variables)
    expired = await run(*SERVICE, "branch", "delete", "--expired", **variables)
    gone = await run(*SERVICE, "branch", "delete", NAME, **variables)

    assert made.out.startswith(f"The branch {NAME} is made by ")
    assert "MB" in made.out
    assert again.err == f"Error: there is a branch {NAME} already: reset it, or delete it first\n"
    words = dict(line.split("=", 1) for line in written.out.splitlines())
    assert words == json.loads(as_json.out)
    assert words["S3_PREFIX"] == object_prefix(primary.s3_prefix, NAME)
    assert {"DATABASE_URL", "SEARCH_DATABASE_URL", "DATABASE_DIRECT_URL", "EMBEDDING_MODEL"} <= set(words)
    assert "PORT" not in words
    assert shell.out.strip() == words["S3_PREFIX"]
    assert [json.loads(line)["name"] for line in listed.out.splitlines()] == [PRIMARY, NAME]
    assert "is as its parent is now" in reset.out
    assert expired.out == f"The branch {NAME} is deleted, objects of its own: 0.\n"
    assert gone.err == f"Error: no branch is called {NAME}; there are {PRIMARY}\n"


async def test_who_may_not_is_told_so(primary: Settings, branches: PostgresBranches) -> None:
    assert primary.database_direct_url is not None
    migrator = replace(branches, admin_url=primary.database_direct_url.get_secret_value())
    with pytest.raises(BranchError, match="DATABASE_ADMIN_URL may not do that"):
        await migrator.create(NAME)
    nowhere = replace(branches, admin_url=of_database(branches.admin_url, "nobody_knows_it"))
    with pytest.raises((BranchError, UnavailableError, WrongRoleError)):
        await nowhere.list()
    unset = await run(*SERVICE, "branch", "list", **environment_of(primary), DATA_DIR="/nonexistent")

    assert unset.code == 1
    assert "DATABASE_ADMIN_URL is not set" in unset.err
    assert [each.name for each in await branches.list()] == [PRIMARY]


async def test_with_the_settings_of_a_branch_no_other_is_touched(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    await branches.create(NAME)
    there = branches_of(stack, await on_branch(branches, primary, NAME))
    with pytest.raises(BranchError, match="are those of the branch preview/pr-12: use the primary's"):
        await there.create("another")


@pytest.mark.usefixtures("as_superuser")
async def test_an_administrator_without_superuser_makes_and_deletes_branches(
    stack: Stack, primary: Settings, branches: PostgresBranches
) -> None:
    role, password = f"ordinary_{uuid4().hex[:8]}", "ordinary-of-the-tests-7Qx2"
    async with inside(stack, "postgres") as admin:
        await admin.execute(f"create role {role} login createdb createrole password '{password}' in role {OWNER}")
        try:
            url = stack.postgres.url(role, password, "postgres")
            ordinary = replace(branches, admin_url=url)
            copied = await ordinary.create(NAME)
            await ordinary.reset(NAME)
            database = database_of(name_in(primary.database_url), NAME)
            assert copied.branch.way != "dump"
            assert await schema_of(stack, database) == await schema_of(stack, name_in(primary.database_url))
            await ordinary.delete(NAME)
        finally:
            await admin.execute(f"drop role {role}")


def test_a_full_disk_is_one_sentence() -> None:
    words = 'pg_restore: error: COPY failed for table "chunks": ERROR:  could not extend file: No space left on device\nHINT: x'

    assert sentence("pg_restore", words) == (
        "the disk of the database server is full: the branch did not fit, and nothing is left of it"
    )


def test_a_comment_in_somebodys_own_words_is_no_note() -> None:
    note = Note(branch=NAME, parent=PRIMARY, s3_prefix="x/", created_at=datetime.now(UTC))

    assert Note.read(note.written()) == note
    for comment in (None, "", "our database", "{}", "[]", '{"branch": "x"}', "1"):
        assert Note.read(comment) is None
