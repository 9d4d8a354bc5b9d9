"""What `service doctor` reads of a database: facts about roles, tables, indexes, statistics and jobs, each in one query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from alembic.script import ScriptDirectory
from sqlalchemy import Index, PrimaryKeyConstraint, Table, UniqueConstraint, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import AddConstraint, CreateIndex

from service.db.history import alembic_heads, applied_revisions
from service.db.migrate import alembic_config
from service.db.roles import ROLE_SETTINGS
from service.db.tables import embedding_profiles, metadata
from service.db.upkeep import CHANGED_LEAST, CHANGED_SHARE

# Without row security: keys are read by the owner's function only, profiles are everybody's, workers see all tenants' jobs.
NOT_OF_A_TENANT = frozenset({"api_keys", "embedding_profiles", "jobs"}) | {
    "instances",
    "release_floor",
    "applied_migrations",
    "backfills",
}
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

VERSIONS = text(
    """
    select current_setting('server_version_num')::int as number, current_setting('server_version') as server,
           (select extversion from pg_extension where extname = 'vector') as vector,
           (select default_version from pg_available_extensions where name = 'vector') as available
    """
)
SECURITY = text(
    """
    select c.relname as name, c.relrowsecurity as enabled, c.relforcerowsecurity as forced,
           exists (select from pg_policy p where p.polrelid = c.oid) as policy
    from pg_class c where c.relnamespace = 'public'::regnamespace and c.relname = any(:names)
    """
)
INDEXES = text(
    """
    select c.relname as name, i.indisvalid and i.indisready as valid
    from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace
    """
)
# A partitioned table is looked at by nobody but who analyses it by name.
STALE = text(
    """
    select t.relname as name, t.n_live_tup as rows, t.n_mod_since_analyze as changed,
           coalesce(t.last_analyze, t.last_autoanalyze) as analyzed
    from pg_stat_user_tables t
    where t.schemaname = 'public' and t.n_mod_since_analyze > greatest(:fewest, :share * t.n_live_tup)
    union all
    select c.relname, sum(t.n_live_tup)::bigint, sum(t.n_live_tup)::bigint, null
    from pg_class c join pg_inherits i on i.inhparent = c.oid join pg_stat_user_tables t on t.relid = i.inhrelid
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'p' and c.reltuples < 0
    group by c.relname having sum(t.n_live_tup) > :fewest
    order by 1
    """
)
QUEUE = text(
    """
    select kind,
           count(*) filter (where state = 'dead') as dead,
           max(last_error) filter (where state = 'dead') as error,
           count(*) filter (where state = 'running' and lease_until < now() - :late * interval '1 second') as silent,
           count(*) filter (where state = 'queued' and run_at < now() - :late * interval '1 second') as waiting
    from jobs group by kind order by kind
    """
)
RIGHTS = text(
    """
    select current_user as name, has_database_privilege(current_database(), 'temporary') as temporary,
           (select coalesce(array_agg(c.relname::text order by c.relname), '{}') from pg_class c
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any(:names)
              and has_table_privilege(c.oid, 'select, insert, update, delete')) as tables
    """
)


@dataclass(frozen=True, slots=True)
class Versions:
    number: int
    server: str
    vector: str | None
    available: str | None


@dataclass(frozen=True, slots=True)
class Secured:
    name: str
    enabled: bool
    forced: bool
    policy: bool


@dataclass(frozen=True, slots=True)
class StaleTable:
    name: str
    rows: int
    changed: int
    analyzed: datetime | None


@dataclass(frozen=True, slots=True)
class QueueOfKind:
    kind: str
    dead: int
    error: str | None
    silent: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Rights:
    """`tables`: those of a tenant's that the role may touch directly."""

    name: str
    temporary: bool
    tables: Sequence[str]


def tenants_tables() -> list[str]:
    return sorted(set(metadata.tables) - NOT_OF_A_TENANT)


async def versions(connection: AsyncConnection) -> Versions:
    return Versions(**(await connection.execute(VERSIONS)).mappings().one())


async def secured(connection: AsyncConnection) -> list[Secured]:
    return [Secured(**row) for row in (await connection.execute(SECURITY, {"names": tenants_tables()})).mappings()]


async def indexes(connection: AsyncConnection) -> Mapping[str, bool]:
    """Name to whether it is valid."""
    return {row.name: row.valid for row in await connection.execute(INDEXES)}


async def stale_tables(connection: AsyncConnection) -> list[StaleTable]:
    limits = {"fewest": CHANGED_LEAST, "share": CHANGED_SHARE}
    return [StaleTable(**row) for row in (await connection.execute(STALE, limits)).mappings()]


async def queues(connection: AsyncConnection, *, late_seconds: float) -> list[QueueOfKind]:
    return [QueueOfKind(**row) for row in (await connection.execute(QUEUE, {"late": late_seconds})).mappings()]


async def rights(connection: AsyncConnection) -> Rights:
    return Rights(**(await connection.execute(RIGHTS, {"names": tenants_tables()})).mappings().one())


async def unset_settings(connection: AsyncConnection, role: str) -> list[str]:
    """The settings of a role that this session of it does not have."""
    wanted = ROLE_SETTINGS[role]
    statement = text(
        """
        select s.name from unnest(cast(:names as text[]), cast(:wanted as text[])) s(name, wanted)
        left join lateral (select setting from pg_db_role_setting r, unnest(r.setconfig) setting
                           where r.setrole = current_user::regrole and r.setdatabase = 0) kept
          on lower(split_part(kept.setting, '=', 1)) = lower(s.name)
        where kept.setting is null or substr(kept.setting, strpos(kept.setting, '=') + 1) <> s.wanted
        """
    )
    return list((await connection.execute(statement, {"names": list(wanted), "wanted": [*wanted.values()]})).scalars())


async def server_time(connection: AsyncConnection) -> datetime:
    moment: datetime = (await connection.execute(text("select clock_timestamp()"))).scalar_one()
    return moment


async def pending_migrations(owner: AsyncConnection) -> tuple[list[str], list[str]]:
    """As the owner: what the database is at, and the heads of the code's history that it has not seen."""
    at, applied = sorted(await alembic_heads(owner)), await applied_revisions(owner)
    heads = ScriptDirectory.from_config(alembic_config("")).get_heads()
    return at, sorted(set(heads) - applied)


def declared_indexes() -> Mapping[str, str]:
    """The name of every index that the metadata declares, with the DDL that makes it."""
    declared: dict[str, str] = {}
    for table in metadata.tables.values():
        declared |= {DIALECT.identifier_preparer.format_index(index): ddl(index, table) for index in table.indexes}
        for constraint in table.constraints:
            if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
                name = DIALECT.identifier_preparer.format_constraint(constraint)
                declared[str(name)] = " ".join(str(AddConstraint(constraint).compile(dialect=DIALECT)).split())
    return declared


def ddl(index: Index, table: Table) -> str:
    words = " ".join(str(CreateIndex(index).compile(dialect=DIALECT)).split())
    partitioned = table.dialect_options["postgresql"]["partition_by"]  # Postgres builds those in one go only.
    return words if partitioned else words.replace("INDEX", "INDEX CONCURRENTLY", 1)


async def graphs(connection: AsyncConnection) -> list[str]:
    """The name that every profile's HNSW index should have."""
    ids = (await connection.execute(select(embedding_profiles.c.id))).scalars()
    return [f"embeddings_p_{profile_id.hex}_hnsw" for profile_id in ids]
