"""`service ingest`: folders, files and NDJSON into a collection of a running service."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.cli.address import Address, find_address
from service.cli.bulk import CONCURRENCY, bulk_load, settle_bulk
from service.cli.checkpoint import Checkpoint, checkpoint_path
from service.cli.client import Json, ServiceClient, open_client
from service.cli.failures import CommandError, Failure
from service.cli.progress import Bars, open_progress, print_failures
from service.cli.settle import wait_until_settled
from service.cli.sources import Source, find_sources
from service.cli.uploads import Tally, send_files, send_lines

STANDING = {
    "deferred": "The index of vectors will be built after the load.",
    "live": "The index of vectors is in use, so it is kept up to date while documents come.",
    "preparing": "No worker of the owner decides about the index of vectors: it is kept up to date while documents come.",
}
INTERRUPTED = 130  # What a shell says of a command that Ctrl-C ended.


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders, files, or NDJSON (.ndjson .jsonl, also .gz).", exists=True)
    ],
    collection: Annotated[str, typer.Option(help="The collection that takes the documents.")],
    *,
    create: Annotated[bool, typer.Option("--create", help="Create the collection if it does not exist.")] = False,
    language: Annotated[str, typer.Option(help="Text-search configuration of a created collection.")] = "english",
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=64, help="Requests at the same time: 4, with --bulk 8.")
    ] = None,
    bulk: Annotated[
        bool,
        typer.Option("--bulk", help="For big loads: the index of vectors is built after them, where nobody misses it."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until everything can be searched.")] = True,
) -> None:
    """Upload documents and wait until they can be searched.

    A file is named by its path in the given folder, a line of NDJSON by its external_id or _id (else by file and
    line), so the command can be repeated: what the service has already is not indexed again. Lines in the layout of
    BEIR (_id, title, text, metadata) are understood; queries and qrels beside a corpus are skipped, as are hidden
    files. An interrupted run continues where it was. The exit code is 1 when anything failed.

    The service is SERVICE_URL with SERVICE_API_KEY, else the one that `make run` started here.
    """
    console, tally = Console(stderr=True), Tally()
    checkpoints = Path(typer.get_app_dir("hybrid-search-service")) / "checkpoints"
    outcome = 0
    try:
        asyncio.run(
            ingest_paths(
                paths,
                address=find_address(os.environ),
                collection=collection,
                language=language if create else None,
                concurrency=concurrency or (CONCURRENCY if bulk else 4),
                bulk=bulk,
                wait=wait,
                checkpoints=checkpoints,
                console=console,
                tally=tally,
            )
        )
    except CommandError as error:
        console.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        outcome = 1
    except KeyboardInterrupt:
        console.print(f"Interrupted: repeat the command to continue (checkpoints: {checkpoints}).", soft_wrap=True)
        outcome = INTERRUPTED
    print_failures(console, tally.failures, count=tally.failed)
    console.print(_summary(tally), highlight=False)
    raise typer.Exit(outcome or bool(tally.failed))


async def ingest_paths(
    paths: Iterable[Path],
    *,
    address: Address,
    collection: str,
    language: str | None,
    concurrency: int,
    bulk: bool,
    wait: bool,
    checkpoints: Path,
    console: Console,
    tally: Tally,
) -> None:
    """Send everything under the paths; `language` is None when the collection must exist already."""
    async with open_client(address) as client:
        kept = await find_or_create(client, collection, language=language)
        size = sum(source.size for source in find_sources(paths) if isinstance(source, Source))
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(open_progress(console))
            if bulk:
                standing = await stack.enter_async_context(bulk_load(client, collection, wait=wait))
                console.print(STANDING[standing], highlight=False)
            bars = Bars(progress, size=size)
            ndjson: list[Source] = []
            files = _files(find_sources(paths), ndjson=ndjson, tally=tally)
            await send_files(
                files, client=client, collection=collection, concurrency=concurrency, tally=tally, advance=bars.advance
            )
            for source in ndjson:
                path = checkpoint_path(
                    checkpoints, source.path, url=address.url, collection=collection, created_at=kept["created_at"]
                )
                checkpoint = Checkpoint.load(path)
                if checkpoint.line:
                    console.print(f"{source.external_id}: continuing after line {checkpoint.line:,}, by {path}")
                await send_lines(
                    source,
                    client=client,
                    collection=collection,
                    concurrency=concurrency,
                    tally=tally,
                    advance=bars.advance,
                    checkpoint=checkpoint,
                )
            if wait:
                bars.begin_indexing()
                await (settle_bulk if bulk else wait_until_settled)(client, collection, watch=bars.watch)
        if wait:
            await _tally_failed(client, collection, tally=tally)


async def find_or_create(client: ServiceClient, collection: str, *, language: str | None) -> Json:
    """Return the collection, created if `language` says in which; raises CommandError when there is none."""
    found = await client.find_collection(collection)
    if found is None and language is not None:
        await client.create_collection(collection, language=language)
        found = await client.find_collection(collection)
    if found is None:
        raise CommandError(f"There is no collection {collection!r}: --create makes it.")
    return found


def _files(sources: Iterable[Source | Failure], *, ndjson: list[Source], tally: Tally) -> Iterable[Source]:
    for source in sources:
        if isinstance(source, Failure):
            tally.fail(source)
        elif source.is_ndjson:
            ndjson.append(source)
        else:
            yield source


async def _tally_failed(client: ServiceClient, collection: str, *, tally: Tally) -> None:
    """Add every document of the collection that could not be read, from this run or an earlier one."""
    async for document in client.list_documents(collection, status="failed"):
        error = document.get("error") or {}
        name = document.get("external_id") or document["id"]
        tally.fail(Failure(name, str(error.get("code")), str(error.get("message"))))


def _summary(tally: Tally) -> str:
    unchanged = tally.sent - tally.changed
    return (
        f"{tally.sent:,} accepted ({tally.changed:,} new or changed, {unchanged:,} unchanged), {tally.failed:,} failed."
    )
