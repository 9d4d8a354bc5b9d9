"""Who waited for a lock, and for how long: Postgres writes it down."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from service.db.roles import APPLICATION, SEARCHER

CLIENTS = (APPLICATION, SEARCHER)
LINE = re.compile(
    r" (?P<role>\w+)@(?P<database>\S+) LOG:  process (?P<pid>\d+) (?P<how>acquired|still waiting for) "
    r"(?P<what>.+?) after (?P<milliseconds>[\d.]+) ms"
)
RELATION = re.compile(r"relation (\d+) of database \d+")
GAVE_UP = re.compile(r" (?P<role>\w+)@(?P<database>\S+) ERROR:  canceling statement due to (?:lock|statement) timeout")
# As Postgres says it, and as SQLAlchemy does.
STALE_PLANS = ("cached plan must not change result type", "cached statement plan is invalid")


@dataclass(frozen=True)
class LockWait:
    role: str
    what: str
    seconds: float

    @property
    def of_a_client(self) -> bool:
        return self.role in CLIENTS


def read_waits(lines: Iterable[str], database: str) -> list[LockWait]:
    """Of one database; shorter ones than `deadlock_timeout` are not written down."""
    found = (LINE.search(line) for line in lines)
    return [
        LockWait(each["role"], each["what"], float(each["milliseconds"]) / 1000)
        for each in found
        if each and each["database"] == database
    ]


def longest(waits: Iterable[LockWait]) -> LockWait | None:
    """Of clients' statements; a migrator may wait."""
    return max((wait for wait in waits if wait.of_a_client), key=lambda wait: wait.seconds, default=None)


async def named(wait: LockWait, connection: asyncpg.Connection) -> LockWait:
    """With the name of the table in the place of its number."""
    number = RELATION.search(wait.what)
    name = number and await connection.fetchval("select $1::oid::regclass::text", int(number[1]))
    return replace(wait, what=RELATION.sub(str(name), wait.what)) if name else wait


def count_given_up(lines: Iterable[str], database: str) -> int:
    """Statements of clients that ended because they waited too long."""
    found = (GAVE_UP.search(line) for line in lines)
    return sum(each["database"] == database and each["role"] in CLIENTS for each in found if each)


def count_stale_plans(logs: Iterable[Path]) -> int:
    texts = [log.read_text(encoding="utf-8", errors="replace") for log in logs if log.is_file()]
    return sum(text.count(sentence) for text in texts for sentence in STALE_PLANS)


def read_lines(log: Path, start: int = 0) -> list[str]:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace").splitlines()
