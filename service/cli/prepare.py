"""What `run` does between starting Postgres and starting the service: roles, schema, profile, tenant and key."""

from service.cli.migrate import all_that_may
from service.db.instances import forget_instances
from service.db.jobs import release_all
from service.db.keys import create_key, tenant_of_key
from service.db.owner import as_owner
from service.db.roles import APPLICATION, MIGRATOR, SEARCHER, Passwords, create_roles
from service.local.stack import Stack

TENANT = "local"


async def prepare(stack: Stack, *, embedding_model: str) -> dict[str, str]:
    """Brings the database to what the service expects; the variables under which the service then reaches it."""
    passwords = Passwords(
        *(stack.folder.secret(f"{role}_password") for role in ("migrator", "application", "searcher"))
    )
    direct_url = stack.postgres.url(MIGRATOR, passwords.migrator)
    await create_roles(stack.postgres.url(), passwords)
    async with as_owner(direct_url) as connection:
        await forget_instances(connection)  # Whoever is listed was killed: the folder is held, so nothing runs on it.
    if (closed := await all_that_may(direct_url, embedding_model)) is not None:
        raise closed
    await ensure_key(stack, direct_url)
    async with as_owner(direct_url) as connection:
        await release_all(connection)  # of a run that was killed; this folder has no worker yet
    return {
        "DATABASE_DIRECT_URL": direct_url,
        "DATABASE_URL": stack.postgres.url(APPLICATION, passwords.application),
        "SEARCH_DATABASE_URL": stack.postgres.url(SEARCHER, passwords.searcher),
        "DATABASE_TLS": "off",  # loopback
        "EMBEDDING_MODEL": embedding_model,
    }


async def ensure_key(stack: Stack, direct_url: str) -> None:
    """The key of last time while the database knows it, else a new one."""
    async with as_owner(direct_url) as connection:
        if stack.api_key and await tenant_of_key(connection, stack.api_key):
            return
        key = await create_key(connection, TENANT, "make run")
    stack.folder.keep("api_key", key)
