"""`service blobs sweep`: delete the objects that uploads left behind when they died before their commit."""

import asyncio
import os
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from service.cli.failures import CommandError
from service.cli.own_settings import own_settings
from service.cli.sentences import or_exit
from service.db.branch_note import check_prefix
from service.ingest.sweep import Swept
from service.ingest.sweep import sweep as sweep_bucket
from service.resources import open_blobs, open_primary
from service.settings import Settings

app = typer.Typer(help="Look after the objects in the bucket.", no_args_is_help=True, add_completion=False)


@app.callback()
def blobs() -> None:
    """Without it, typer would make the only command the whole."""


@app.command("sweep")
def sweep(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    older_than_hours: Annotated[
        float | None,
        typer.Option(min=1, help="Judge older objects only; by default BLOB_GRACE_SECONDS, and an hour at least."),
    ] = None,
    whole_bucket: Annotated[
        bool, typer.Option("--whole-bucket", help="No other database shares the bucket: S3_PREFIX may be empty.")
    ] = False,
) -> None:
    """Delete old objects that no version of any document names, under S3_PREFIX only."""
    try:
        settings = own_settings(os.environ)
    except CommandError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    if not settings.s3_prefix and not whole_bucket and not dry_run:
        typer.echo(
            "Error: S3_PREFIX is empty, so another database that shares the bucket, as a branch does, would lose what only"
            " it names: set S3_PREFIX, or say --whole-bucket when no other does",
            err=True,
        )
        raise typer.Exit(1)
    default = max(timedelta(seconds=settings.blob_grace_seconds), timedelta(hours=1))
    older_than = default if older_than_hours is None else timedelta(hours=older_than_hours)
    swept = or_exit(lambda: asyncio.run(run(settings, older_than=older_than, dry_run=dry_run)))
    Console().print(sentence(swept, dry_run=dry_run), highlight=False)


async def run(settings: Settings, *, older_than: timedelta, dry_run: bool) -> Swept:
    primary, store = open_primary(settings), open_blobs(settings)
    try:
        await check_prefix(primary, settings.s3_prefix)
        return await sweep_bucket(primary=primary, blobs=store, older_than=older_than, dry_run=dry_run)
    finally:
        await store.close()
        await primary.close()


def sentence(swept: Swept, *, dry_run: bool) -> str:
    kept = swept.listed - swept.orphans - swept.young - swept.foreign
    return (
        f"{swept.orphans} orphans of {swept.bytes / 1e6:.1f} MB {'would be' if dry_run else 'were'} deleted;"
        f" of {swept.listed} objects {kept} are named, {swept.young} too young to judge, {swept.foreign} not this service's."
    )
