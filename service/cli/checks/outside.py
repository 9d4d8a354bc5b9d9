"""The doors to the database: what stands before it, and what only the owner can see."""

from service.cli.checks.finding import Report, checking
from service.db import inspection
from service.db.addresses import with_tls
from service.db.owner import as_owner
from service.db.pooling import Door, check_pooler
from service.db.profiles import refuse_foreign_profiles
from service.embeddings.loading import describe_model
from service.settings import Settings

POOLINGS = {
    "session": "no pooler, or one in session mode",
    "tracked": "a pooler in transaction mode that tracks prepared statements",
    "untracked": "a pooler in transaction mode that does not track prepared statements",
}


async def check_door(door: Door, *, tracked: bool, report: Report) -> bool:
    """Whether anything can be asked through it."""
    with checking(
        door.variable, report, remedy=f"compare {door.variable}, DATABASE_TLS and PG_STATEMENT_MODE"
    ) as found:
        pooling = await check_pooler(door, tracked=tracked)
        found.ok(f"{POOLINGS[pooling]}, as PG_STATEMENT_MODE={'tracked' if tracked else 'untracked'} allows")
    return all(finding.level == "ok" for finding in found.said)


async def check_migrations(settings: Settings, report: Report) -> None:
    """Who owns the history is the only one to read it."""
    with checking("migrations", report, remedy="compare DATABASE_DIRECT_URL; python -m service roles") as found:
        direct = settings.database_direct_url
        if direct is None:
            found.say(
                "warning",
                "DATABASE_DIRECT_URL is not set, and only the owner sees how far the schema is",
                "DATABASE_DIRECT_URL=postgresql://hybrid_migrator:…@host/database python -m service doctor",
            )
            return
        url = with_tls(direct.get_secret_value(), settings.database_tls, settings.database_ca_file)
        async with as_owner(url) as connection:
            at, missing = await inspection.pending_migrations(connection)
            if missing:
                sentence = f"the schema is at {', '.join(at) or 'nothing'}, and {', '.join(missing)} is not applied"
                found.say("error", sentence, "python -m service migrate")
            else:
                await refuse_foreign_profiles(connection, describe_model(settings.embedding_model)[0])
        found.ok(f"at {', '.join(at)}, the newest")
