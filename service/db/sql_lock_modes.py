"""Locks on tables, in the words of Postgres, and what each lets others do."""

from dataclasses import dataclass
from enum import Enum

# From the weakest to the strongest.
LETS = {
    "ACCESS SHARE": "reads and writes go on",
    "ROW SHARE": "reads and writes go on",
    "ROW EXCLUSIVE": "reads and writes go on",
    "SHARE UPDATE EXCLUSIVE": "reads and writes go on, other DDL and vacuum wait",
    "SHARE": "reads go on, nobody writes",
    "SHARE ROW EXCLUSIVE": "reads go on, nobody writes",
    "EXCLUSIVE": "reads go on, nobody writes",
    "ACCESS EXCLUSIVE": "nobody reads or writes",
}
STRENGTH = {mode: place for place, mode in enumerate(LETS)}


class Work(Enum):
    """What is done under the lock, and so how long it is held at least; a transaction keeps it until its commit."""

    INSTANT = "for an instant"
    ROWS = "while it finds its rows"
    SCAN = "while the whole table is read"
    REWRITE = "while the whole table is written anew"
    BUILD = "while an index is built from the whole table"


@dataclass(frozen=True, slots=True)
class TakenLock:
    relation: str
    mode: str
    work: Work = Work.INSTANT

    @property
    def lets(self) -> str:
        return LETS[self.mode]

    @property
    def stops_writers(self) -> bool:
        return STRENGTH[self.mode] >= STRENGTH["SHARE"]

    def __str__(self) -> str:
        return f"{self.mode} on {self.relation}, {self.work.value}: {self.lets}"


def strongest(locks: list[TakenLock]) -> list[TakenLock]:
    """One for each relation: its strongest mode and its longest work."""
    order = list(Work)
    kept: dict[str, TakenLock] = {}
    for lock in locks:
        before = kept.get(lock.relation, lock)
        kept[lock.relation] = TakenLock(
            lock.relation,
            max(before.mode, lock.mode, key=STRENGTH.__getitem__),
            max(before.work, lock.work, key=order.index),
        )
    return list(kept.values())
