"""The four roles, made in SQL once per server by somebody who may create roles.

`owner` owns every object and cannot log in; `migrator` logs in on the direct URL and becomes the owner; `application` writes
under row security and owns nothing; `searcher` only reads, through the views. On Neon the console's roles bypass row
security, so the service never logs in as one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from sqlalchemy import text

from service.db.addresses import Address, asyncpg_tls
from service.db.owner import OWNER, WrongRoleError
from service.db.primary import LOGIN_REFUSED, NO_ANSWER, REFUSED, Primary, no_answer
from service.domain.errors import UnavailableError

MIGRATOR, APPLICATION, SEARCHER = "hybrid_migrator", "hybrid_application", "hybrid_searcher"

EF_SEARCH = 120  # Vectors that a walk through the graph visits at least.
# Settings live on the roles: they survive every pooler, which `SET` on a connection does not.
ROLE_SETTINGS: dict[str, dict[str, str]] = {
    APPLICATION: {
        "timezone": "UTC",
        "lock_timeout": "5s",
        "statement_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
    },
    SEARCHER: {
        "timezone": "UTC",
        "default_transaction_read_only": "on",
        "lock_timeout": "1s",
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "5s",
        "plan_cache_mode": "auto",  # a server's own default may be another; see `planned_anew` in db/retrieval.py
        "hnsw.iterative_scan": "relaxed_order",
        "hnsw.ef_search": str(EF_SEARCH),
        "hnsw.max_scan_tuples": "20000",
        # Thousands of rows in an index's order cost a third more than the same rows in the table's: a bitmap sorts them.
        "random_page_cost": "1.3",
        "jit": "off",  # compiling costs more than any search statement runs
    },
}


@dataclass(frozen=True, slots=True)
class Passwords:
    migrator: str
    application: str
    searcher: str


def role_statements(database: str, passwords: Sequence[tuple[str, str]]) -> list[str]:
    """DDL that creates what is missing and sets what is there; safe to repeat. It takes no bound parameters, so each is quoted."""
    statements = [
        f"""do $$ begin
            if not exists (select from pg_roles where rolname = '{role}') then create role {role}; end if;
        end $$"""
        for role in (OWNER, MIGRATOR, APPLICATION, SEARCHER)
    ]
    statements += [f"alter role {OWNER} nologin"]
    statements += [f"alter role {role} login password {literal(password)}" for role, password in passwords]
    statements += [
        f"grant {OWNER} to {MIGRATOR}",
        f"grant {OWNER} to current_user",
        f"alter database {identifier(database)} owner to {OWNER}",
        # Everybody may make temporary tables by default, the reader too, and fill the disk with them.
        f"revoke temporary on database {identifier(database)} from public",
        f"grant create, usage on schema public to {OWNER}",
        f"grant usage on schema public to {APPLICATION}, {SEARCHER}",
    ]
    statements += [
        f"alter role {role} set {name} = {literal(value)}"
        for role, settings in ROLE_SETTINGS.items()
        for name, value in settings.items()
    ]
    return statements


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def create_roles(admin_url: str, passwords: Passwords) -> None:
    """Creates or completes the roles in the database that `admin_url` names, and makes the owner its owner.

    Raises UnavailableError, and WrongRoleError when the role of `admin_url` may not do that.
    """
    connection = await connected(admin_url)
    try:
        # `hnsw.*` can be set on a role only where the library is loaded, which LOAD does for superusers alone, its use for all.
        await connection.execute("create extension if not exists vector")
        await connection.execute("select '[1]'::vector")
        database = await connection.fetchval("select current_database()")
        pairs = [
            (MIGRATOR, passwords.migrator),
            (APPLICATION, passwords.application),
            (SEARCHER, passwords.searcher),
        ]
        for statement in role_statements(database, pairs):
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise WrongRoleError(f"the role of DATABASE_ADMIN_URL may not create roles and extensions: {error}") from error
    finally:
        await connection.close()


async def connected(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    address = Address.direct(url)
    try:
        return await asyncpg.connect(
            user=address.user,
            password=address.password,
            host=address.host,
            port=address.port,
            database=address.database,
            ssl=asyncpg_tls(address),
        )
    except asyncpg.PostgresError as error:
        raise UnavailableError(LOGIN_REFUSED if (error.sqlstate or "").startswith(REFUSED) else NO_ANSWER) from error
    except OSError as error:
        raise UnavailableError(no_answer(error)) from error


CHECK_ROLE = text(
    """
    select r.rolname as name, r.rolsuper or r.rolbypassrls as bypasses,
           (select count(*) from pg_class c where c.relowner = r.oid and c.relnamespace = 'public'::regnamespace) as owned,
           exists (select from pg_auth_members m join pg_roles o on o.oid = m.roleid
                   where m.member = r.oid and o.rolname = :owner) as owner
    from pg_roles r where r.rolname = current_user
    """
)


async def check_role(primary: Primary) -> None:
    """Raises WrongRoleError when the login role owns objects or escapes row security."""
    async with primary.begin() as connection:
        role = (await connection.execute(CHECK_ROLE, {"owner": OWNER})).one()
    if role.bypasses:
        raise WrongRoleError(f"role {role.name} bypasses row security; log in as {APPLICATION} (see `service roles`)")
    if role.owned or role.owner:
        raise WrongRoleError(f"role {role.name} owns the tables; log in as {APPLICATION} (see `service roles`)")
