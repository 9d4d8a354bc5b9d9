"""Which migrations ran, which are left, who runs, and how far the backfills are: what `service migrate status` shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.backfill import read_backfills
from service.db.instances import living
from service.db.leftovers import unfinished_indexes
from service.db.migrate import alembic_config, unknown_revisions
from service.db.owner import as_owner
from service.db.tables import applied_migrations, backfills, release_floor
from service.domain.releases import Instance


@dataclass(frozen=True, slots=True)
class Step:
    """A migration; `applied_at` is None while it is left to do."""

    revision: str
    phase: str
    title: str
    applied: bool
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class BackfillState:
    name: str
    state: str
    looked_at: int
    changed: int


@dataclass(frozen=True, slots=True)
class State:
    """`floor` is the oldest release that this schema takes."""

    steps: Sequence[Step]
    backfills: Sequence[BackfillState]
    instances: Sequence[Instance]
    floor: str | None
    unfinished_indexes: Sequence[str]
    unknown: Sequence[str] = ()  # of a newer release

    @property
    def is_empty(self) -> bool:
        """Nothing has ever run here."""
        return not any(step.applied for step in self.steps)

    def has(self, revision: str) -> bool:
        return any(step.applied for step in self.steps if step.revision == revision)

    def left(self, phase: str) -> list[Step]:
        return [step for step in self.steps if step.phase == phase and not step.applied]


async def read_state(direct_url: str) -> State:
    """Raises UnavailableError and WrongRoleError."""
    async with as_owner(direct_url) as connection:
        listed = (await connection.execute(text("select to_regclass('applied_migrations') is not null"))).scalar_one()
        times = dict(await read_times(connection)) if listed else {}
        done = set(times) or await alembic_heads(connection)
        return State(
            [as_step(script, done, times) for script in scripts()],
            await read_progress(connection, set(times)) if listed else [],
            await read_instances(connection) if listed else [],
            (await connection.execute(select(release_floor.c.release))).scalar_one_or_none() if listed else None,
            await unfinished_indexes(connection),
            await unknown_revisions(connection),
        )


def scripts() -> list[Script]:
    """In the order in which a fresh database runs them."""
    return list(ScriptDirectory.from_config(alembic_config("")).walk_revisions())[::-1]


def as_step(script: Script, done: set[str], times: dict[str, datetime]) -> Step:
    phase = Path(script.path).parent.name
    return Step(script.revision, phase, script.doc, script.revision in done, times.get(script.revision))


async def read_times(connection: AsyncConnection) -> list[tuple[str, datetime]]:
    rows = await connection.execute(select(applied_migrations.c.revision, applied_migrations.c.applied_at))
    return [(row.revision, row.applied_at) for row in rows]


async def read_instances(connection: AsyncConnection) -> list[Instance]:
    rows = await connection.execute(living())
    return [Instance(row.kind, row.release, row.started_at, row.silent_for) for row in rows]


async def applied_revisions(connection: AsyncConnection) -> set[str]:
    """As the owner. A database from before migrations were listed has the first one, or none."""
    listed = (await connection.execute(text("select to_regclass('applied_migrations') is not null"))).scalar_one()
    return set(dict(await read_times(connection))) if listed else await alembic_heads(connection)


async def alembic_heads(connection: AsyncConnection) -> set[str]:
    known = (await connection.execute(text("select to_regclass('alembic_version') is not null"))).scalar_one()
    return (
        set((await connection.execute(text("select version_num from alembic_version"))).scalars()) if known else set()
    )


async def read_progress(connection: AsyncConnection, applied: set[str]) -> list[BackfillState]:
    rows = {row.name: row for row in await connection.execute(select(backfills))}
    states = []
    for name, backfill in read_backfills().items():
        row = rows.get(name)
        looked_at, changed = (row.looked_at, row.changed) if row else (0, 0)
        if backfill.until in applied:
            state = "sealed"
        elif backfill.after not in applied:
            state = "not due"
        else:
            state = "finished" if row and row.finished_at else "begun" if row else "due"
        states.append(BackfillState(name, state, looked_at, changed))
    return states
