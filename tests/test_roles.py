"""Who may do what in the database, and who is turned away at the door."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from service.db.owner import OWNER, WrongRoleError, as_owner
from service.db.roles import APPLICATION, MIGRATOR, SEARCHER, Passwords, create_roles
from service.domain.errors import UnavailableError
from service.resources import Resources, open_resources
from service.settings import Settings
from tests.api_calls import Api
from tests.conftest import PASSWORDS, execute
from tests.stacks import Stack

Login = Callable[[str, str], Awaitable[asyncpg.Connection]]


def database_of(settings: Settings) -> str:
    return urlsplit(settings.database_url.get_secret_value()).path.removeprefix("/")


async def login(stack: Stack, settings: Settings, role: str, password: str) -> asyncpg.Connection:
    return await asyncpg.connect(stack.postgres.url(role, password, database_of(settings)))


async def test_the_application_owns_nothing_and_escapes_nothing(admin: asyncpg.Connection) -> None:
    for role in (APPLICATION, SEARCHER):
        flags = await admin.fetchrow(
            "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication from pg_roles where rolname = $1",
            role,
        )
        assert not any(flags)
        assert (
            await admin.fetchval(
                "select count(*) from pg_shdepend where refobjid = $1::regrole and deptype = 'o'", role
            )
            == 0
        )
        assert await admin.fetchval("select count(*) from pg_auth_members where member = $1::regrole", role) == 0
        assert not await admin.fetchval("select has_schema_privilege($1, 'public', 'create')", role)
    owners = await admin.fetch(
        "select distinct relowner::regrole::text from pg_class where relnamespace = 'public'::regnamespace"
    )
    assert [row["relowner"] for row in owners] == [OWNER]
    assert not await admin.fetchval("select rolcanlogin from pg_roles where rolname = $1", OWNER)


@pytest.mark.parametrize(
    "statement",
    [
        "select key_hash from api_keys",
        "insert into api_keys (id, tenant_id, name, key_hash) values (uuidv7(), uuidv7(), '', '')",
        "insert into tenants (id, name) values (uuidv7(), 'mine')",
        "update embedding_profiles set name = ''",
        "alter table documents disable row level security",
        "drop policy tenant on documents",
        "create table mine ()",
        "set role hybrid_owner",
        "truncate jobs",
        "select * from alembic_version",
    ],
)
async def test_the_application_is_refused(stack: Stack, settings: Settings, statement: str) -> None:
    application = await login(stack, settings, APPLICATION, PASSWORDS.application)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute(statement)
    await application.close()


async def test_the_searcher_reads_through_the_views_and_changes_nothing(stack: Stack, settings: Settings) -> None:
    searcher = await login(stack, settings, SEARCHER, PASSWORDS.searcher)
    for view in ("search_documents", "search_chunks", "search_terms", "search_embeddings", "lexeme_frequencies"):
        await searcher.fetch(f"select * from {view} limit 1")  # noqa: S608  a name of this test
    for table in (
        "documents",
        "document_versions",
        "chunks",
        "chunk_terms",
        "embeddings",
        "jobs",
        "tenants",
        "api_keys",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await searcher.fetch(f"select * from {table}")  # noqa: S608
    await searcher.execute("set default_transaction_read_only = off")
    for change in (
        "update collections set name = ''",
        "delete from lexeme_frequencies",
        "delete from search_documents",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await searcher.execute(change)
    await searcher.close()


@pytest.mark.usefixtures("worker")
async def test_without_a_tenant_there_are_no_rows(
    stack: Stack, settings: Settings, admin: asyncpg.Connection, api: Api, collection: str
) -> None:
    await api.make_document(collection, wait=60)
    secured = await admin.fetch(
        "select relname from pg_class where relrowsecurity and relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
    )
    application = await login(stack, settings, APPLICATION, PASSWORDS.application)
    searcher = await login(stack, settings, SEARCHER, PASSWORDS.searcher)
    for setting in (
        "reset app.tenant_id",
        "set app.tenant_id = ''",
        "set app.tenant_id = '01900000-0000-7000-8000-000000000000'",
    ):
        await application.execute(setting)
        await searcher.execute(setting)
        counts = [await application.fetchval(f"select count(*) from {row['relname']}") for row in secured]  # noqa: S608
        assert counts == [0] * len(secured)
        assert await searcher.fetchval("select count(*) from collections") == 0
    await application.close()
    await searcher.close()
    assert await admin.fetchval("select count(*) from chunks") > 0


async def refusal(settings: Settings, url: str) -> str:
    wrong = Settings.model_validate(settings.model_dump() | {"database_url": url})
    with pytest.raises(WrongRoleError) as raised:
        async with open_resources(wrong):
            pass
    return str(raised.value)


@pytest.mark.usefixtures("as_superuser")
async def test_a_start_as_a_role_that_may_too_much_is_refused(
    stack: Stack, settings: Settings, admin: asyncpg.Connection
) -> None:
    database = database_of(settings)
    await admin.execute("create role passing login bypassrls password 'p'; create role owning login password 'p'")
    await admin.execute("create table public.owned (); alter table public.owned owner to owning")
    urls = {
        "bypasses row security": [stack.postgres.url(database=database), stack.postgres.url("passing", "p", database)],
        "owns the tables": [
            stack.postgres.url(MIGRATOR, PASSWORDS.migrator, database),
            stack.postgres.url("owning", "p", database),
        ],
    }
    try:
        for reason, wrong in urls.items():
            for url in wrong:
                sentence = await refusal(settings, url)
                assert reason in sentence
                assert f"log in as {APPLICATION}" in sentence
    finally:
        await admin.execute("drop table owned; drop role passing; drop role owning")


async def test_roles_can_be_made_again_with_any_password(stack: Stack, settings: Settings, template: str) -> None:
    hard = Passwords(migrator='it\'s "m"', application="a\\'; drop role x; -- %s :b é", searcher="$$s$$")
    url = stack.postgres.url(database=template)
    try:
        await create_roles(url, hard)
        await create_roles(url, hard)
        for role, password in ((MIGRATOR, hard.migrator), (APPLICATION, hard.application), (SEARCHER, hard.searcher)):
            await (await login(stack, settings, role, password)).close()
        async with as_owner(stack.postgres.url(MIGRATOR, hard.migrator, database_of(settings))):
            pass
        assert quote(hard.application, safe="") in stack.postgres.url(APPLICATION, hard.application)
    finally:
        await create_roles(url, PASSWORDS)


async def test_only_the_owner_may_make_temporary_tables(stack: Stack) -> None:
    name = f"{stack.database_prefix}_temporary"
    await execute(stack, f"create database {name}")
    try:
        await create_roles(stack.postgres.url(database=name), PASSWORDS)
        for role, password in ((SEARCHER, PASSWORDS.searcher), (APPLICATION, PASSWORDS.application)):
            connection = await asyncpg.connect(stack.postgres.url(role, password, name))
            await connection.execute("set default_transaction_read_only = off")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("create temporary table mine ()")
            await connection.close()
    finally:
        await execute(stack, f"drop database {name} with (force)")


async def test_who_may_not_make_roles_is_told_so(stack: Stack) -> None:
    for url, error in (
        (stack.postgres.url(APPLICATION, PASSWORDS.application), WrongRoleError),
        (stack.postgres.url("nobody", "x"), UnavailableError),
        ("postgresql://nobody@127.0.0.1:1/none", UnavailableError),
    ):
        with pytest.raises(error):
            await create_roles(url, PASSWORDS)


async def test_settings_of_the_roles_are_there_when_they_log_in(stack: Stack, settings: Settings) -> None:
    searcher = await login(stack, settings, SEARCHER, PASSWORDS.searcher)
    application = await login(stack, settings, APPLICATION, PASSWORDS.application)

    assert await searcher.fetchval("show plan_cache_mode") == "auto"
    assert await searcher.fetchval("show default_transaction_read_only") == "on"
    assert await searcher.fetchval("show hnsw.iterative_scan") == "relaxed_order"
    assert await application.fetchval("show idle_in_transaction_session_timeout") == "1min"
    await searcher.close()
    await application.close()


async def test_a_worker_sees_one_tenant_at_a_time(resources: Resources, api: Api, other_api: Api) -> None:
    for tenant in (api, other_api):
        await tenant.make_collection()
    async with resources.primary.begin() as connection:
        tenants = (await connection.exec_driver_sql("select id from tenants")).scalars().all()

    assert tenants == []
