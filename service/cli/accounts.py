"""`service roles`, `service keys`: who may log in, to the database and to the API."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from service.cli.sentences import or_exit
from service.db.addresses import Tls, with_tls
from service.db.keys import create_key
from service.db.owner import as_owner
from service.db.roles import Passwords, create_roles
from service.settings import PUBLISHED_HINT, is_published

DirectUrl = Annotated[
    str, typer.Option(envvar="DATABASE_DIRECT_URL", help="The migrator, without a pooler.", show_default=False)
]
DatabaseTls = Annotated[
    Tls | None,
    typer.Option(envvar="DATABASE_TLS", help="As for the service; by default `verify`, and `off` on this machine."),
]
CaFile = Annotated[Path | None, typer.Option(envvar="DATABASE_CA_FILE", help="CA bundle for `verify`.")]


def roles(
    admin_url: Annotated[str, typer.Option(envvar="DATABASE_ADMIN_URL", help="A role that may create roles.")],
    *,
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Create the owner, migrator, application and searcher roles; passwords are read from the environment.

    MIGRATOR_PASSWORD, APPLICATION_PASSWORD and SEARCHER_PASSWORD. Safe to repeat: it sets the passwords again.
    """
    names = ("MIGRATOR_PASSWORD", "APPLICATION_PASSWORD", "SEARCHER_PASSWORD")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        typer.echo(f"Error: {', '.join(missing)} must be set", err=True)
        raise typer.Exit(1)
    values = {"DATABASE_ADMIN_URL": admin_url} | {name: os.environ[name] for name in names}
    published = [name for name, value in values.items() if is_published(value)]
    if published and os.environ.get("DEPLOYMENT") != "dev":
        for name in published:
            typer.echo(f"Error: {name}: {PUBLISHED_HINT}", err=True)
        raise typer.Exit(1)
    passwords = Passwords(*(os.environ[name] for name in names))
    or_exit(lambda: asyncio.run(create_roles(with_tls(admin_url, database_tls, ca_file), passwords)))
    typer.echo("The roles are there.")


def keys(
    direct_url: DirectUrl,
    *,
    tenant: Annotated[str, typer.Argument(help="The tenant; made when it is new.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Make an API key and print it: now and never again."""

    async def run() -> str:
        async with as_owner(with_tls(direct_url, database_tls, ca_file)) as connection:
            return await create_key(connection, tenant, name)

    typer.echo(or_exit(lambda: asyncio.run(run())))
