"""`service stats rebuild`: count and weigh the words of collections anew, at once."""

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from service.cli.failures import CommandError
from service.cli.own_settings import own_settings
from service.cli.progress import open_progress
from service.cli.sentences import direct_of, or_exit
from service.db.all_collections import TenantsCollection, all_collections
from service.db.owner import as_owner
from service.db.primary import Primary
from service.ingest.rebuild import Rebuilt, rebuild_statistics
from service.resources import open_primary
from service.settings import Settings

app = typer.Typer(help="Look after the statistics that BM25 needs.", no_args_is_help=True, add_completion=False)


@app.callback()
def stats() -> None:
    """Without it, typer would make the only command the whole."""


@app.command("rebuild")
def rebuild(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="COLLECTION", help="Of any tenant; without a name, all of them.")
    ] = None,
) -> None:
    """Recount the words of collections, and write the BM25 weights of all their chunks from the texts.

    The statistics job does the same by and by, and lets the average length drift by 5 % in between. After this command
    they are exact. Safe to repeat, to break off, and while the service runs.
    """
    try:
        settings = own_settings(os.environ)
        or_exit(lambda: asyncio.run(run(settings, names or [])))
    except CommandError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


async def run(settings: Settings, names: Sequence[str]) -> None:
    """Raises CommandError for a name that no collection has, before anything is changed."""
    direct_url = direct_of(settings)
    if direct_url is None:
        raise CommandError("DATABASE_DIRECT_URL: only the owner sees the collections of all tenants")
    async with as_owner(direct_url) as connection:
        found = await all_collections(connection, names)
    unknown = sorted(set(names) - {each.name for each in found})
    if unknown:
        raise CommandError(f"There is no collection {', '.join(unknown)}.")
    primary, console = open_primary(settings), Console()
    try:
        with open_progress(Console(stderr=True)) as progress:
            for each in found:
                rebuilt = await rebuild_one(each, primary=primary, progress=progress)
                console.print(sentence(each, rebuilt), highlight=False, markup=False, soft_wrap=True)
        console.print(f"Collections rebuilt: {len(found):,}.", highlight=False)
    finally:
        await primary.close()


async def rebuild_one(collection: TenantsCollection, *, primary: Primary, progress: Progress) -> Rebuilt:
    task = progress.add_task("Counting", total=None, documents=0, unit="chunks")

    def watch(written: int, chunks: int) -> None:
        progress.update(task, description="Writing", total=chunks, completed=written, documents=written)

    try:
        return await rebuild_statistics(collection.tenant_id, collection.id, primary=primary, watch=watch)
    finally:
        progress.remove_task(task)


def sentence(collection: TenantsCollection, rebuilt: Rebuilt) -> str:
    before, now = rebuilt.before, rebuilt.now
    mended = f", {rebuilt.mended:,} of them with other words than before" if rebuilt.mended else ""
    return (
        f"{collection.tenant}/{collection.name}: {now.chunks:,} chunks (counted before: {before.chunks_before:,}),"
        f" average length {shown(now.average)} (before: {shown(before.average_before)}),"
        f" {rebuilt.terms:,} frequencies were others; {rebuilt.rewritten:,} weights written{mended}."
    )


def shown(average: float | None) -> str:
    return "none" if average is None else f"{average:.2f}"
