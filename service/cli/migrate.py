"""`service migrate`, `service roles`, `service keys`: what prepares a database, as the roles that may."""

import asyncio
import os
from typing import Annotated

import typer

from service.cli.serve import or_exit
from service.db.keys import create_key
from service.db.migrate import upgrade
from service.db.owner import as_owner
from service.db.profiles import ensure_profile
from service.db.roles import Passwords, create_roles
from service.embeddings.loading import describe_model

DirectUrl = Annotated[
    str, typer.Option(envvar="DATABASE_DIRECT_URL", help="The migrator, without a pooler.", show_default=False)
]


def migrate(
    direct_url: DirectUrl,
    *,
    revision: Annotated[str, typer.Argument(help="`heads`, or `expand@head` before a deployment.")] = "heads",
    embedding_model: Annotated[str, typer.Option(envvar="EMBEDDING_MODEL")] = "all-MiniLM-L6-v2",
) -> None:
    """Bring the schema up to date and make the embedding profile of EMBEDDING_MODEL."""

    async def run() -> None:
        await upgrade(direct_url, revision)
        name, dimension = await asyncio.to_thread(describe_model, embedding_model)
        await ensure_profile(direct_url, name=name, dimension=dimension)

    or_exit(lambda: asyncio.run(run()))
    typer.echo("The database is up to date.")


def roles(
    admin_url: Annotated[str, typer.Option(envvar="DATABASE_ADMIN_URL", help="A role that may create roles.")],
) -> None:
    """Create the owner, migrator, application and searcher roles; passwords are read from the environment.

    MIGRATOR_PASSWORD, APPLICATION_PASSWORD and SEARCHER_PASSWORD. Safe to repeat: it sets the passwords again.
    """
    names = ("MIGRATOR_PASSWORD", "APPLICATION_PASSWORD", "SEARCHER_PASSWORD")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        typer.echo(f"Error: {', '.join(missing)} must be set", err=True)
        raise typer.Exit(1)
    or_exit(lambda: asyncio.run(create_roles(admin_url, Passwords(*(os.environ[name] for name in names)))))
    typer.echo("The roles are there.")


def keys(
    direct_url: DirectUrl,
    *,
    tenant: Annotated[str, typer.Argument(help="The tenant; made when it is new.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
) -> None:
    """Make an API key and print it: now and never again."""

    async def run() -> str:
        async with as_owner(direct_url) as connection:
            return await create_key(connection, tenant, name)

    typer.echo(or_exit(lambda: asyncio.run(run())))
