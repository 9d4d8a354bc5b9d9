"""How many bytes a chunk takes for its vector, its graph and its words, here and in the textbook's schema."""

import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.address import find_address
from service.cli.client import open_client
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, own_collection, report
from service.cli.figures.search_latency import open_parts
from service.cli.figures.sending import send_documents
from service.cli.own_settings import own_settings
from service.cli.settle import wait_until_settled
from service.db.bytes_kept import Kept, bytes_kept

GOAL = 0.65


def kept_bytes(
    *,
    collection: Annotated[str, typer.Option(help="A folder of DATA.")] = "cranfield",
    documents: Annotated[int | None, typer.Option(min=1, help="How many of its documents; all by default.")] = None,
    existing: Annotated[str | None, typer.Option(help="A collection that is there, instead of DATA's.")] = None,
) -> None:
    """Print bytes per chunk for vectors, graph and words, over those of one table with a vector, HNSW, a tsvector and GIN.

    The same rows fill both schemas, with their indexes in place; then VACUUM; TOAST, keys and statistics count. The text does
    on neither side. In temporary tables of the database that DATABASE_DIRECT_URL names, as the service has it.
    """
    report(measure(collection, documents, existing))


async def measure(collection: str, count: int | None, existing: str | None) -> Figure:
    console = Console(stderr=True)
    if existing is not None:
        kept = await of_collection(existing)
    else:
        texts = corpus(collection, count, console=console)
        async with open_client(find_address(os.environ)) as client, own_collection(client, "bytes") as name:
            await send_documents(client, name, texts)
            await wait_until_settled(client, name, quiet=True)
            kept = await of_collection(name)
    if not kept.chunks:
        raise CommandError("The collection has no chunks: no figure.")
    Console().print(table(kept))
    ours, textbook = (sum(sizes.values()) / kept.chunks for sizes in (kept.ours, kept.textbook))
    return Figure(
        what=f"bytes a chunk for vectors, graph and words over the textbook's schema, {kept.chunks:,} chunks",
        goal=f"≤ {GOAL}",
        measured=f"{ours / textbook:.2f} ({ours:,.0f} over {textbook:,.0f})",
        met=ours / textbook <= GOAL,
    )


async def of_collection(name: str) -> Kept:
    settings = own_settings(os.environ)
    if settings.database_direct_url is None:
        raise CommandError("DATABASE_DIRECT_URL: only the owner may make the tables to compare.")
    async with open_parts(name, settings=settings) as parts:
        return await bytes_kept(
            settings.database_direct_url.get_secret_value(),
            collection_id=parts.collection.id,
            profile=parts.tools.profile,
        )


def table(kept: Kept) -> Table:
    shown = Table("table or index", "bytes a chunk")
    for sizes in (kept.ours, kept.textbook):
        for name, size in sizes.items():
            shown.add_row(name, f"{size / kept.chunks:,.0f}")
        shown.add_section()
    return shown
