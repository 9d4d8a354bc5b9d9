"""Rows in which the old and the new column of a change say different things: read from the backfill that joins them."""

from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, column, func, literal_column, not_, or_, select, table

from rehearsal.ground import Ground
from rehearsal.schemas import Stage
from service.db.backfill import Backfill, load

NOT_THERE = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError)


def read_backfills(tree: Path) -> dict[str, Backfill]:
    """Of a release's tree, by name."""
    found = [load(path) for path in sorted((tree / "migrations" / "backfills").glob("[a-z]*.py"))]
    return {backfill.name: backfill for backfill in found}


def due(backfill: Backfill, stage: Stage) -> bool:
    """While both columns live and every release that may run keeps them alike."""
    return backfill.after in stage.applied and backfill.until not in stage.applied


def sql(expression: str) -> ColumnElement[Any]:
    """Of a file of this repository, as it is."""
    return literal_column(f"({expression})")


def differing(backfill: Backfill) -> str:
    """Counts rows that have been filled, with another value than the backfill would give them."""
    differs = [column(name).is_distinct_from(sql(value)) for name, value in backfill.assign.items()]
    filled = not_(sql(backfill.missing))
    return str(select(func.count()).select_from(table(backfill.table)).where(filled, or_(*differs)))


def unfilled(backfill: Backfill) -> str:
    """Counts rows that the backfill has still to fill."""
    return str(select(func.count()).select_from(table(backfill.table)).where(sql(backfill.missing)))


async def count_differing(ground: Ground, database: str, backfill: Backfill) -> int | None:
    """None where one of the columns is not there."""
    return await count(ground, database, differing(backfill))


async def count_unfilled(ground: Ground, database: str, backfill: Backfill) -> int | None:
    return await count(ground, database, unfilled(backfill))


async def count(ground: Ground, database: str, statement: str) -> int | None:
    async with ground.admin(database) as connection:
        try:
            return int(await connection.fetchval(statement))
        except NOT_THERE:
            return None
