"""How full the queue is: one statement over the whole table, for the metrics."""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import jobs


@dataclass(frozen=True, slots=True)
class QueueLoad:
    kind: str
    state: str  # `scheduled` is queued and due later
    count: int
    oldest_seconds: float  # since the first of them was due; negative where it is due later


async def queue_load(connection: AsyncConnection) -> list[QueueLoad]:
    """One row for each kind and state that occurs."""
    j = jobs.c
    later = (j.state == "queued") & (j.run_at > func.now())
    state = case((later, "scheduled"), else_=j.state)
    age = func.extract("epoch", func.now() - func.min(j.run_at))
    found = await connection.execute(select(j.kind, state, func.count(), age).group_by(j.kind, state))
    return [QueueLoad(kind, state, count, float(oldest)) for kind, state, count, oldest in found]
