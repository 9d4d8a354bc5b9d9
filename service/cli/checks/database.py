"""The database: what it is, who may do what, and whether tables, indexes, statistics and jobs are as the service needs them."""

import shlex
import time
from collections.abc import Callable, Sequence

from service.cli.checks.finding import Findings, Report, checking
from service.db import inspection
from service.db.jobs import OWNER_KINDS
from service.db.primary import Primary
from service.db.profiles import find_profile
from service.db.roles import check_role
from service.embeddings.loading import describe_model

POSTGRES, PGVECTOR = 170_000, (0, 8, 0)  # UUIDv7's check; iterative scans
PGVECTOR_SOUND = (0, 8, 4)  # Before it: known faults of HNSW.
SKEW_WARNING_SECONDS, SKEW_SECONDS = 2.0, 60.0  # A lease is 30 s by default; S3 refuses signatures that are 15 min off.
LATE_SECONDS = 600.0
ROLES = "python -m service roles"
MIGRATE = "python -m service migrate"


def as_owner(*statements: str) -> str:
    return " ".join(
        ["psql", '"$DATABASE_DIRECT_URL"', *(f"-c {shlex.quote(s)}" for s in ("set role hybrid_owner", *statements))]
    )


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


async def check_versions(primary: Primary, report: Report) -> None:
    with checking("versions", report) as found:
        async with primary.begin() as connection:
            v = await inspection.versions(connection)
        if v.number < POSTGRES:
            found.say(
                "error", f"Postgres {v.server} is older than {POSTGRES // 10_000}", "move to Postgres 17 or newer"
            )
        if v.vector is None:
            found.say("error", "the extension vector is not installed in this database", ROLES)
        else:
            check_pgvector(v.vector, v.available, found)
        found.ok(f"Postgres {v.server}, pgvector {v.vector}")


def check_pgvector(version: str, available: str | None, found: Findings) -> None:
    newer = numbers(available or "0") >= PGVECTOR_SOUND
    update = as_owner("alter extension vector update") if newer else "install pgvector 0.8.4 or newer on the server"
    if numbers(version) < PGVECTOR:
        found.say(
            "error", f"pgvector {version} is older than 0.8.0, which scans the graph on until it has enough", update
        )
    elif numbers(version) < PGVECTOR_SOUND:
        found.say("warning", f"pgvector {version} has faults that 0.8.4 has mended", update)


async def check_application(primary: Primary, report: Report) -> None:
    with checking("application role", report, remedy=ROLES) as found:
        await check_role(primary)
        async with primary.begin() as connection:
            rights = await inspection.rights(connection)
            unset = await inspection.unset_settings(connection, "hybrid_application")
        say_unset(unset, rights.name, found)
        say_temporary(rights, found)
        found.ok(f"{rights.name} is under row security and owns nothing")


async def check_searcher(search: Primary, report: Report) -> None:
    with checking("searcher role", report, remedy=ROLES) as found:
        async with search.begin() as connection:
            rights = await inspection.rights(connection)
            unset = await inspection.unset_settings(connection, "hybrid_searcher")
        wrong = sorted(set(rights.tables) - {"collections", "lexeme_frequencies"})
        if wrong:
            found.say(
                "error",
                f"{rights.name} of SEARCH_DATABASE_URL may touch {', '.join(wrong)} directly: it should see views only",
                f"set SEARCH_DATABASE_URL to log in as hybrid_searcher ({ROLES})",
            )
        say_unset(unset, rights.name, found)
        say_temporary(rights, found)
        found.ok(f"{rights.name} reads through views only")


def say_unset(unset: Sequence[str], role: str, found: Findings) -> None:
    if unset:
        found.say("warning", f"{role} does not have the service's values of {', '.join(unset)}", ROLES)


def say_temporary(rights: inspection.Rights, found: Findings) -> None:
    if rights.temporary:
        found.say("warning", f"{rights.name} may make temporary tables, and so fill the disk", ROLES)


async def check_security(primary: Primary, report: Report) -> None:
    """Enabled and not forced: the searcher's views are the owner's, who would see nothing through them."""
    with checking("row security", report) as found:
        async with primary.begin() as connection:
            tables = await inspection.secured(connection)
        for table in tables:
            if not table.enabled:
                remedy = as_owner(f"alter table {table.name} enable row level security")
                found.say("error", f"row security is off on {table.name}: every tenant sees its rows", remedy)
            if not table.policy:
                found.say("error", f"{table.name} has no policy, so nobody sees its rows", MIGRATE)
            if table.forced:
                remedy = as_owner(f"alter table {table.name} no force row level security")
                found.say("error", f"row security is forced on {table.name}, so searches find nothing in it", remedy)
        found.ok(f"on for all {len(tables)} tables of tenants, each with its policy")


async def check_indexes(primary: Primary, report: Report) -> None:
    with checking("indexes", report) as found:
        async with primary.begin() as connection:
            there = await inspection.indexes(connection)
            graphs = await inspection.graphs(connection)
        for name in sorted(name for name, valid in there.items() if not valid):
            remedy = as_owner(f"reindex index concurrently {name}")
            found.say("error", f"the index {name} is invalid: it costs every write and serves no search", remedy)
        declared = inspection.declared_indexes()
        for name in sorted(set(declared) - set(there)):
            found.say("error", f"the index {name} is missing", as_owner(declared[name]))
        for name in sorted(set(graphs) - set(there)):
            found.say("error", f"the HNSW graph {name} is missing, so semantic searches read every vector", MIGRATE)
        found.ok(f"all {len(declared) + len(graphs)} that the service counts on are there and valid")


async def check_statistics(primary: Primary, report: Report) -> None:
    with checking("statistics", report) as found:
        async with primary.begin() as connection:
            stale = await inspection.stale_tables(connection)
        for table in stale:
            when = (
                "was never analysed"
                if table.analyzed is None
                else f"was last analysed at {table.analyzed:%Y-%m-%d %H:%M}"
            )
            sentence = (
                f"{table.name} {when}, and {table.changed:,} changes on {table.rows:,} rows are unknown to the planner"
            )
            found.say("warning", sentence, as_owner(f"analyze {table.name}"))
        found.ok("fresh on every table")


async def check_clock(primary: Primary, report: Report, *, now: Callable[[], float] = time.time) -> None:
    with checking("clock", report) as found:
        async with primary.begin() as connection:
            before = now()
            there = (await inspection.server_time(connection)).timestamp()
            after = now()
        skew = there - (before + after) / 2
        sentence = f"the database's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
        if abs(skew) - (after - before) / 2 > SKEW_WARNING_SECONDS:
            found.say(
                "error" if abs(skew) > SKEW_SECONDS else "warning",
                sentence,
                "set this machine's clock: timedatectl set-ntp true",
            )
        found.ok(f"{abs(skew) * 1000:.0f} ms from the database's")


async def check_profile(primary: Primary, embedding_model: str, report: Report) -> None:
    remedy = f"set EMBEDDING_MODEL to the profile that the collections use, or: {MIGRATE}"
    with checking("embedding profile", report, remedy=remedy) as found:
        name, dimension = describe_model(embedding_model)
        async with primary.begin() as connection:
            profile = await find_profile(connection, name)
        if profile.dimension != dimension:
            found.say("error", f"{name} has {dimension} dimensions, and its profile has {profile.dimension}", remedy)
        found.ok(f"{name}, {dimension} dimensions")


async def check_queue(primary: Primary, report: Report) -> None:
    with checking("jobs", report) as found:
        async with primary.begin() as connection:
            queues = await inspection.queues(connection, late_seconds=LATE_SECONDS)
        minutes = LATE_SECONDS / 60
        for queue in queues:
            if queue.dead:
                sentence = f"{queue.dead} jobs {queue.kind} are dead; one of them: {queue.error}"
                found.say(
                    "error", sentence, "python -m service jobs list --state dead; python -m service jobs retry --all"
                )
            if queue.silent:
                sentence = (
                    f"{queue.silent} jobs {queue.kind} are held by a worker that went silent over {minutes:.0f} min ago"
                )
                found.say("error", f"{sentence}, and no other takes them", "python -m service worker")
            if queue.waiting:
                owner = " --owner" if queue.kind in OWNER_KINDS else ""
                sentence = f"{queue.waiting} jobs {queue.kind} have been due for over {minutes:.0f} min"
                found.say("warning", sentence, f"start a worker, or more of them: python -m service worker{owner}")
        found.ok("none is dead, forgotten or late")
