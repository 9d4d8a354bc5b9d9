"""One database becomes another, whole: the copy on the server where nobody is connected, an empty one to restore into elsewhere.

`CREATE DATABASE … TEMPLATE` carries over neither rights on the database nor its settings, so both are read and said again.
"""

import json
from typing import Literal

import asyncpg
from sqlalchemy import text

from service.db.branching import Admin
from service.db.jobs import release_all
from service.db.owner import as_owner
from service.db.roles import connected, identifier, literal
from service.domain.branches import BusyError

# Settings that are lists: their stored value is quoted already.
LISTS = {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}

Strategy = Literal["clone", "copy"]

# Whatever keeps CREATE DATABASE from copying; it cancels an autovacuum by itself.
USERS = """
select count(*) from (
    select 1 from pg_stat_activity
    where datname = $1 and pid <> pg_backend_pid() and backend_type is distinct from 'autovacuum worker'
    union all select 1 from pg_prepared_xacts where database = $1
) used
"""


async def users(admin: Admin, database: str) -> int:
    return int(await admin.fetchval(USERS, database))


async def can_clone(admin: Admin) -> bool:
    """Whether the server, since Postgres 18, can ask its file system to share blocks; whether that does is another question."""
    return bool(
        await admin.fetchval("select 'clone' = any (enumvals) from pg_settings where name = 'file_copy_method'")
    )


async def copy_template(admin: Admin, parent: str, draft: str) -> Strategy:
    """Raises BusyError when somebody came in meanwhile."""
    create = f"create database {identifier(draft)} template {identifier(parent)} owner {identifier(await owner_of(admin, parent))}"
    try:
        if await can_clone(admin) and await cloned(admin, f"{create} strategy file_copy"):
            return "clone"
        await admin.execute(create)
    except asyncpg.ObjectInUseError as error:
        raise BusyError("somebody came in while the template copy began") from error
    return "copy"


async def cloned(admin: Admin, create: str) -> bool:
    """False where the file system cannot."""
    await admin.execute("set file_copy_method = 'clone'")
    try:
        await admin.execute(create)
    except (asyncpg.FeatureNotSupportedError, asyncpg.PostgresIOError, asyncpg.InvalidParameterValueError):
        return False
    finally:
        await admin.execute("reset file_copy_method")
    return True


async def create_empty(admin: Admin, parent: str, draft: str) -> None:
    """With the parent's encoding and collation, which nothing can change later."""
    row = json.loads(await admin.fetchval("select to_jsonb(d) from pg_database d where datname = $1", parent))
    encoding = await admin.fetchval("select pg_encoding_to_char($1::int)", row["encoding"])
    options = [
        f"encoding {literal(encoding)}",
        f"lc_collate {literal(row['datcollate'])}",
        f"lc_ctype {literal(row['datctype'])}",
    ]
    provider = {"i": "icu", "b": "builtin"}.get(row.get("datlocprovider", "c"))
    locale = row.get("datlocale") or row.get("daticulocale")  # renamed in Postgres 17
    if provider and locale:
        options += [f"locale_provider {provider}", f"{provider}_locale {literal(locale)}"]
        options += [f"icu_rules {literal(row['daticurules'])}"] if row.get("daticurules") else []
    owner = identifier(await owner_of(admin, parent))
    await admin.execute(f"create database {identifier(draft)} template template0 owner {owner} {' '.join(options)}")


async def owner_of(admin: Admin, database: str) -> str:
    """It owns the objects, too, as `service roles` leaves it."""
    return str(await admin.fetchval("select pg_get_userbyid(datdba) from pg_database where datname = $1", database))


async def copy_extensions(parent_url: str, draft_url: str) -> None:
    """Before the restore, which may run as a role that must not create them."""
    found = """
        select extname, nspname, extversion from pg_extension join pg_namespace n on n.oid = extnamespace
        where extname <> 'plpgsql'"""
    source, target = await connected(parent_url), await connected(draft_url)
    try:
        for name, schema, version in await source.fetch(found):
            await target.execute(f"create schema if not exists {identifier(schema)}")
            await target.execute(
                f"create extension if not exists {identifier(name)} schema {identifier(schema)} version {literal(version)}"
            )
    finally:
        await source.close()
        await target.close()


RIGHTS = """
select case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
       lower(privilege_type) as right, is_grantable
from pg_database d, aclexplode(coalesce(datacl, acldefault('d', datdba))) where datname = $1
"""
SETTINGS = """
select quote_ident(r.rolname) as role, unnest(s.setconfig) as setting
from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole
where d.datname = $1
"""


async def copy_rights_and_settings(admin: Admin, parent: str, draft: str) -> None:
    name = identifier(draft)
    await admin.execute(f"revoke all on database {name} from public")
    for grantee, right, grantable in await admin.fetch(RIGHTS, parent):
        option = " with grant option" if grantable else ""
        await admin.execute(f"grant {right} on database {name} to {grantee}{option}")
    for role, pair in await admin.fetch(SETTINGS, parent):
        setting, _, value = pair.partition("=")
        subject = f"alter role {role} in database {name}" if role else f"alter database {name}"
        await admin.execute(f"{subject} set {setting} = {value if setting in LISTS else literal(value)}")


async def settle(draft_url: str, *, analyze: bool) -> None:
    """What was running in the parent does not run here: its jobs are free again, its instances are not ours."""
    async with as_owner(draft_url) as connection:
        tables = await connection.execute(
            text("select to_regclass('public.jobs') is not null, to_regclass('public.instances') is not null")
        )
        jobs, instances = tables.one()
        if jobs:
            await release_all(connection)
        if instances:
            await connection.execute(text("delete from instances"))
        if analyze:
            await connection.execute(text("analyze"))
