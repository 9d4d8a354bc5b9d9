"""Branches as databases of one server: their names, their notes, and what is said to the server about them.

A branch is made in a draft, `primary@~…`, and gets its name when it is whole, so what has its name is never half-made. Who
makes, resets or deletes it holds an advisory lock, which ends with its session however that ends: a draft that nobody
holds is half-made.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

import asyncpg

from service.db.addresses import parts_of
from service.db.roles import connected, identifier, literal
from service.domain.branches import PRIMARY, Branch, BranchError, Note, check_name
from service.domain.errors import UnavailableError

LONGEST = 63  # bytes of a database's name
BETWEEN, CUT = "@", "~"  # a branch's name has neither
LEAST_ROOM = 16
LOCKS = 0x6272616E  # "bran": the first half of the advisory lock's key, the second is the draft's name

Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # of the role that may create databases


def database_of(primary: str, name: str) -> str:
    """The branch's database: its name as it is, or cut, with a hash, where that is longer than Postgres allows.

    Raises BranchError. Both can be told apart, and the note of a database has the whole name.
    """
    check_name(name)
    room = LONGEST - len((primary + BETWEEN).encode())
    if room < LEAST_ROOM:
        raise BranchError(f"the database {primary} has too long a name to have branches: at most 46 bytes")
    return primary + BETWEEN + (name if len(name) <= room else f"{name[: room - 9]}{CUT}{key_of(primary, name):08x}")


def draft_of(primary: str, name: str) -> str:
    return f"{primary}{BETWEEN}{CUT}{key_of(primary, name):08x}"


def key_of(primary: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{primary}{BETWEEN}{name}".encode()).digest()[:4], "big")


def database_in(url: str) -> str:
    return unquote(parts_of(url).path.removeprefix("/"))


@asynccontextmanager
async def administering(admin_url: str) -> AsyncIterator[Admin]:
    """A session of the administrator; what the server refuses is one sentence."""
    try:
        connection = await connected(admin_url)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
    except asyncpg.InsufficientPrivilegeError as error:
        raise BranchError(f"the role of DATABASE_ADMIN_URL may not do that: {str(error).splitlines()[0]}") from error
    except asyncpg.DiskFullError as error:
        raise BranchError(
            "the disk of the database server is full: the branch did not fit, and nothing is left of it"
        ) from error
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise UnavailableError(
            "the database server went away in the middle; what is half-made, the next command removes"
        ) from error
    except asyncpg.PostgresError as error:
        raise BranchError(f"the database server refuses: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class Found:
    """One database of the primary's family."""

    database: str
    branch: Branch
    note: Note | None


DATABASES = """
select d.datname as name, shobj_description(d.oid, 'pg_database') as note,
       case when has_database_privilege(d.oid, 'connect') then pg_database_size(d.oid) end as size
from pg_database d
where d.datname = $1 or starts_with(d.datname, $1 || $2)
order by d.datname <> $1, d.datname
"""
HELD = "select objid::bigint from pg_locks where locktype = 'advisory' and classid::bigint = $1 and objsubid = 2 and granted"


async def family(admin: Admin, primary: str) -> list[Found]:
    """The primary and whatever is named after it: a database that is no branch by its note is somebody else's, and left out."""
    held = {row["objid"] for row in await admin.fetch(HELD, LOCKS)}
    found: list[Found] = []
    for row in await admin.fetch(DATABASES, primary, BETWEEN):
        name, note = str(row["name"]), Note.read(row["note"])
        rest = name.removeprefix(primary + BETWEEN)
        if name == primary:
            found.append(Found(name, Branch(name=PRIMARY, parent=None, size=row["size"]), note))
        elif rest.startswith(CUT):
            key = int(rest[1:], 16) if _is_key(rest[1:]) else None
            branch = Branch(
                name=note.branch if note else rest,
                parent=note.parent if note else "",
                state="being made" if key in held else "half-made",
                created_at=note.created_at if note else None,
                size=row["size"],
            )
            found.append(Found(name, branch, note))
        elif note is not None and database_of(primary, note.branch) == name:
            found.append(Found(name, branch_of(note, row["size"]), note))
    return found


def branch_of(note: Note, size: int | None) -> Branch:
    return Branch(
        name=note.branch,
        parent=note.parent,
        created_at=note.created_at,
        expires_at=note.expires_at,
        protected=note.protected,
        size=size,
        way=note.way,
    )


def _is_key(word: str) -> bool:
    return len(word) == 8 and set(word) <= set("0123456789abcdef")  # noqa: PLR2004


@asynccontextmanager
async def alone(admin: Admin, primary: str, name: str) -> AsyncIterator[None]:
    """Nobody else makes, resets or deletes this branch at the same time. Raises BranchError at once when somebody does."""
    key = key_of(primary, name)
    signed = key - (1 << 32) if key >= 1 << 31 else key
    if not await admin.fetchval("select pg_try_advisory_lock($1, $2)", LOCKS, signed):
        raise BranchError(f"the branch {name} is being made, reset or deleted by somebody else: wait for it")
    try:
        yield
    finally:
        if not admin.is_closed():
            await admin.execute("select pg_advisory_unlock($1, $2)", LOCKS, signed)


async def exists(admin: Admin, database: str) -> bool:
    return bool(await admin.fetchval("select exists (select from pg_database where datname = $1)", database))


async def drop(admin: Admin, database: str) -> None:
    """With its sessions, if it is there: never called for anything but a branch or its draft."""
    await admin.execute(f"drop database if exists {identifier(database)} with (force)")


async def name_it(admin: Admin, draft: str, database: str) -> None:
    await admin.execute(f"alter database {identifier(draft)} rename to {identifier(database)}")


async def write_note(admin: Admin, database: str, note: Note) -> None:
    await admin.execute(f"comment on database {identifier(database)} is {literal(note.written())}")
