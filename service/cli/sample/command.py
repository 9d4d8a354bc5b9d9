"""`service sample`: several thousand documents that are on every machine, and five queries to try on them."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import Progress

from service.cli.asking import ask, open_output
from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.progress import Bars, open_progress, print_failures
from service.cli.retrying import PATIENCE
from service.cli.sample.entries import ATTRIBUTES, Entry
from service.cli.sample.library import document_library
from service.cli.sample.sources import find_files, library, read_source
from service.cli.sample.tour import COLLECTION, ask_all, print_tour
from service.cli.settle import wait_until_settled
from service.cli.sources import Source
from service.cli.uploads import Tally, send_lines

CONCURRENCY = 4


def sample() -> None:
    """Index the documentation of Python's standard library, and show five queries with their answers.

    Example: service sample

    It is read from the source files of this Python, into the collection python-docs: some 7,000 modules, classes,
    functions and methods, with the attributes module, kind, deprecated, line and since, and tags such as async,
    property or exception. Repeating it is safe: what has not changed is not indexed again. The service is SERVICE_URL
    with SERVICE_API_KEY, else the one that `make run` started here.
    """
    console, tally = Console(stderr=True), Tally()

    async def fill_and_ask(client: ServiceClient) -> list[Json]:
        await fill(client, tally=tally, console=console)
        return await ask_all(client)

    answers = ask(fill_and_ask, patience=PATIENCE)
    print_tour(open_output(), answers)


async def fill(client: ServiceClient, *, tally: Tally, console: Console) -> None:
    """Make the collection what this Python's documentation is; raises CommandError when the library has no sources."""
    await client.create_collection(COLLECTION, language="english")
    await client.declare_attributes(COLLECTION, ATTRIBUTES)
    with open_progress(console) as progress, tempfile.TemporaryDirectory() as folder:
        entries = read_library(progress)
        source = write_lines(entries, Path(folder) / "python-docs.ndjson")
        bars = Bars(progress, size=source.size)
        await send_lines(
            source, client=client, collection=COLLECTION, concurrency=CONCURRENCY, tally=tally, advance=bars.advance
        )
        bars.begin_indexing()
        await wait_until_settled(client, COLLECTION, watch=bars.watch)
    print_failures(console, tally.failures, count=tally.failed)
    console.print(
        f"{tally.sent:,} documents in {COLLECTION}: {tally.changed:,} new or changed, "
        f"{tally.sent - tally.changed:,} unchanged.",
        highlight=False,
    )


def read_library(progress: Progress) -> list[Entry]:
    files = find_files()
    if not files:
        raise CommandError(f"The sources of Python's standard library are not in {library()}: install them.")
    task = progress.add_task("Reading", total=len(files), unit="files")
    sources = []
    for file in files:
        sources.append(read_source(file))
        progress.advance(task)
    return list(document_library(source for source in sources if source))


def write_lines(entries: Iterable[Entry], path: Path) -> Source:
    """As `ingest` would read them."""
    path.write_bytes(b"".join(orjson.dumps(entry.to_document()) + b"\n" for entry in entries))
    return Source(path=path, external_id=path.name, size=path.stat().st_size)
