"""Gates: what a contract migration asks before it changes anything, in the transaction of that change."""

from collections.abc import Sequence
from types import ModuleType

from alembic.operations import Operations
from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.postgresql import insert

from service.db.backfill import find_backfill, is_finished
from service.db.instances import living
from service.db.tables import release_floor
from service.domain.releases import GateClosedError, order


def gate(op: Operations | ModuleType, *, oldest_release: str, backfills: Sequence[str] = ()) -> None:
    """Holds the migration up while an instance of an older release lives or a backfill is unfinished; keeps older ones out.

    Raises GateClosedError, and nothing has changed.
    """
    if op.get_context().as_sql:
        op.execute(f"-- gate: every instance >= {oldest_release}; finished backfills: {', '.join(backfills) or 'none'}")
        return
    connection = op.get_bind()
    refuse_older(connection, oldest_release)
    for name in backfills:
        refuse_unfinished(connection, name)  # It may read a whole table: before the lock, behind which heartbeats wait.
    if is_below(connection, oldest_release):
        # An instance that starts now waits for this transaction, and then reads the floor that it leaves.
        connection.execute(text("lock table instances in share row exclusive mode"))
        refuse_older(connection, oldest_release)
        raise_floor(connection, oldest_release)


def refuse_older(connection: Connection, oldest_release: str) -> None:
    older = [row for row in connection.execute(living()) if order(row.release) < order(oldest_release)]
    if older:
        seen = "; ".join(f"{row.kind} of {row.release}, seen {row.silent_for:.0f} s ago" for row in older)
        raise GateClosedError(
            f"every running instance must be of release {oldest_release} or newer, and there is: {seen}. Stop it, or wait:"
            " what was killed counts as gone after 30 s"
        )


def refuse_unfinished(connection: Connection, name: str) -> None:
    connection.execute(text("set local statement_timeout = 0"))  # It reads the whole table where nothing is missing.
    if not is_finished(connection, find_backfill(name)):
        raise GateClosedError(f"the backfill {name} is unfinished: run `service migrate backfill {name}`")
    connection.execute(text("set local statement_timeout = '60s'"))


def is_below(connection: Connection, release: str) -> bool:
    """Whether the floor is; where it is not, an earlier gate has seen to it that nothing older runs or starts."""
    floor = connection.execute(select(release_floor.c.release)).scalar_one_or_none()
    return floor is None or order(floor) < order(release)


def raise_floor(connection: Connection, release: str) -> None:
    row = insert(release_floor).values(single=True, release=release)
    connection.execute(row.on_conflict_do_update(index_elements=["single"], set_={"release": row.excluded.release}))
