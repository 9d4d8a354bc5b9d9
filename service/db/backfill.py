"""A backfill: rows get the value of a new column, a few at a time, while everything else goes on."""

import asyncio
import importlib.util
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, exists, func, literal_column, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.owner import as_owner
from service.db.roles import identifier
from service.db.tables import applied_migrations
from service.domain.errors import ServiceError

BACKFILLS = Path(__file__).resolve().parents[2] / "migrations" / "backfills"
ROWS = 1_000  # looked at in a transaction: some ten milliseconds, so nobody waits long for a row.
SHARE = 0.5  # of the time in which the backfill works; the rest belongs to the others.
LOCK_TIMEOUT = "'500ms'"
LOCK_NOT_AVAILABLE = "55P03"
BUSY_SECONDS = 1.0


@dataclass(frozen=True)
class Backfill:
    """What a file of `migrations/backfills` says, in SQL that is frozen with the history.

    `missing` is true of a row that still needs `assign`. It is due once the revision `after` ran, until `until` did.
    """

    name: str
    table: str
    key: Sequence[str]
    missing: str
    assign: Mapping[str, str]
    after: str
    until: str

    @cached_property
    def keys(self) -> str:
        return ", ".join(map(identifier, self.key))


@dataclass(frozen=True, slots=True)
class Progress:
    """`share` of the table that this pass has looked at, by the planner's estimate of its rows."""

    looked_at: int
    changed: int
    passes: int
    share: float


class BackfillBusyError(ServiceError):
    """Another process runs it."""


class NoBackfillError(ServiceError):
    """No file has this name."""


class FailedBackfillError(ServiceError):
    """What Postgres said to its SQL; what was filled before stays."""


class EndlessBackfillError(ServiceError):
    """What it assigns leaves a row as it was: it would never be finished."""


def read_backfills() -> dict[str, Backfill]:
    """Of every file in `migrations/backfills`, by name."""
    found = [load(path) for path in sorted(BACKFILLS.glob("[a-z]*.py"))]
    return {backfill.name: backfill for backfill in found}


def load(path: Path) -> Backfill:
    spec = importlib.util.spec_from_file_location(f"backfill_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise NoBackfillError(f"{path} cannot be read")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    backfill: Backfill = module.BACKFILL
    return backfill


def find_backfill(name: str) -> Backfill:
    """Raises NoBackfillError."""
    known = read_backfills()
    if name not in known:
        raise NoBackfillError(f"no backfill is called {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


async def due(connection: AsyncConnection) -> list[Backfill]:
    """What has been made room for and not yet been sealed, in the order of their names."""
    if not (await connection.execute(text("select to_regclass('applied_migrations') is not null"))).scalar_one():
        return []  # A schema from before 0.2.0, or none yet.
    rows = await connection.execute(select(applied_migrations.c.revision))
    applied = set(rows.scalars())
    return [each for each in read_backfills().values() if each.after in applied and each.until not in applied]


def is_finished(connection: Connection, backfill: Backfill) -> bool:
    """Asked of the rows themselves."""
    missing = exists(select(literal_column("1")).select_from(table(backfill.table)).where(text(backfill.missing)))
    return not connection.execute(select(missing)).scalar_one()


async def fill(
    direct_url: str, backfill: Backfill, *, rows: int = ROWS, share: float = SHARE
) -> AsyncGenerator[Progress]:
    """Passes over the table until no row is missing, from where a run before was stopped.

    Raises BackfillBusyError, FailedBackfillError and EndlessBackfillError.
    """
    async with alone(direct_url, backfill) as connection:
        types = await key_types(connection, backfill)
        total = await estimated_rows(connection, backfill)
        first = text("insert into backfills (name) values (:name) on conflict do nothing")
        await connection.execute(first, {"name": backfill.name})
        while True:
            started = time.monotonic()
            try:
                progress, ended, unchanged = await step(connection, backfill, types, rows=rows, total=total)
            except DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None)
                if state is None:
                    raise
                if state != LOCK_NOT_AVAILABLE:
                    reason = str(error.orig).rpartition(">: ")[2]
                    raise FailedBackfillError(f"the backfill {backfill.name} failed: {reason}") from error
                await asyncio.sleep(BUSY_SECONDS)  # A row that somebody holds is skipped; this is a lock on the table.
                continue
            yield progress
            if unchanged is not None:
                raise EndlessBackfillError(
                    f"the backfill {backfill.name} leaves rows as they are, such as ({backfill.keys}) = {unchanged}: after its"
                    f" assignment {backfill.missing!r} is still true. Change `assign` or `missing`"
                )
            if ended and await connection.run_sync(is_finished, backfill):
                await connection.execute(
                    text("update backfills set finished_at = now(), updated_at = now() where name = :name"),
                    {"name": backfill.name},
                )
                return
            await asyncio.sleep((time.monotonic() - started) * (1 - share) / share)


@asynccontextmanager
async def alone(direct_url: str, backfill: Backfill) -> AsyncIterator[AsyncConnection]:
    """The only connection that runs this backfill; each statement is a transaction."""
    async with as_owner(direct_url, autocommit=True) as connection:
        lock = select(func.pg_try_advisory_lock(func.hashtext("backfill"), func.hashtext(backfill.name)))
        if not (await connection.execute(lock)).scalar_one():
            raise BackfillBusyError(f"the backfill {backfill.name} is already running")
        await connection.execute(text(f"set lock_timeout = {LOCK_TIMEOUT}"))
        await connection.execute(text("set statement_timeout = 0"))  # The last look reads the whole table.
        yield connection


async def key_types(connection: AsyncConnection, backfill: Backfill) -> list[str]:
    statement = text(
        "select format_type(atttypid, atttypmod) from unnest(cast(:key as text[])) with ordinality k(name, place)"
        " join pg_attribute on attrelid = cast(:table as regclass) and attname = k.name order by place"
    )
    rows = await connection.execute(statement, {"key": list(backfill.key), "table": identifier(backfill.table)})
    return list(rows.scalars())


async def estimated_rows(connection: AsyncConnection, backfill: Backfill) -> float:
    statement = text("select reltuples from pg_class where oid = cast(:table as regclass)")
    return float((await connection.execute(statement, {"table": identifier(backfill.table)})).scalar_one())


async def step(
    connection: AsyncConnection, backfill: Backfill, types: Sequence[str], *, rows: int, total: float
) -> tuple[Progress, bool, str | None]:
    """One range of the key and its checkpoint, in one statement; whether its pass ended; the key of a row left as it was."""
    position = (
        await connection.execute(text("select position from backfills where name = :name"), {"name": backfill.name})
    ).scalar_one()
    statement = text(range_statement(backfill, types, resumed=position is not None))
    bound: dict[str, object] = {f"p{place}": value for place, value in enumerate(position or ())}
    row = (await connection.execute(statement, bound | {"name": backfill.name, "rows": rows})).one()
    share = 1.0 if row.ended else ((row.looked_at - 1) % max(total, 1) + 1) / max(total, 1)
    return Progress(row.looked_at, row.changed, row.passes, share), row.ended, row.unchanged


def range_statement(backfill: Backfill, types: Sequence[str], *, resumed: bool) -> str:
    """Rows that somebody holds are skipped: a later pass finds them. What is bounded is what is looked at, not what is found."""
    source, keys = identifier(backfill.table), backfill.keys
    after = ", ".join(f"cast(cast(:p{place} as text) as {kind})" for place, kind in enumerate(types))
    beyond = f"where ({keys}) > ({after})" if resumed else ""
    names = [f"k{place}" for place in range(len(backfill.key))]
    named = ", ".join(f"{identifier(key)} as {name}" for key, name in zip(backfill.key, names, strict=True))
    same = " and ".join(f"t.{identifier(key)} = h.{name}" for key, name in zip(backfill.key, names, strict=True))
    assigned = ", ".join(f"{identifier(column)} = {value}" for column, value in backfill.assign.items())
    falling = ", ".join(f"{identifier(key)} desc" for key in backfill.key)
    texts = ", ".join(f"{name}::text" for name in names)
    # Names are quoted, types come from the catalog, and conditions and values are the migration's own SQL.
    return f"""
        with looked as materialized (select {keys} from {source} {beyond} order by {keys} limit :rows),
        seen as (select count(*) as rows from looked),
        held as materialized (
          select {named} from {source} where ({keys}) in (select {keys} from looked) and ({backfill.missing})
          for update skip locked),
        changed as (update {source} t set {assigned} from held h where {same}
          returning case when {backfill.missing} then concat_ws(', ', {texts}) end as unchanged),
        last as (select jsonb_build_array({texts}) as position
                 from (select {named} from looked order by {falling} limit 1) as l)
        update backfills b set
          position = case when seen.rows = :rows then (select position from last) end,
          looked_at = b.looked_at + seen.rows,
          changed = b.changed + (select count(*) from changed),
          passes = b.passes + case when seen.rows = :rows then 0 else 1 end,
          updated_at = now(), finished_at = null
        from seen where b.name = :name
        returning b.looked_at, b.changed, b.passes, b.position is null as ended,
          (select min(unchanged) from changed) as unchanged
    """  # noqa: S608
