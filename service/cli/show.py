"""`service show` and `service open`: one document, and where its bytes are."""

import sys
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import orjson
import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.cli.asking import ask, choose_collection, open_output, plain, print_json
from service.cli.client import Json, ServiceClient
from service.cli.failures import NotThereError, ProblemError

PREVIEW = 240  # Characters of a chunk.

Document = Annotated[str, typer.Argument(help="Its id, or its external_id in the collection.")]
Collection = Annotated[
    str | None, typer.Option("--collection", "-c", help="Of an external_id; not needed when there is only one.")
]


def show(
    document: Document,
    *,
    collection: Collection = None,
    chunks: Annotated[int, typer.Option(min=0, help="Chunks to preview.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the document and all its chunks as JSON.")] = False,
) -> None:
    """Show what the service knows about a document: its fields, its status, and how it was cut into chunks.

    Example: service show json.loads -c python-docs

    The exit code is 3 when there is no such document.
    """

    async def find(client: ServiceClient) -> tuple[Json, list[Json]]:
        found = await find_document(client, document, collection=collection)
        return found, [chunk async for chunk in client.list_chunks(found["id"])]

    found, parts = ask(find)
    if as_json:
        print_json({"document": found, "chunks": parts})
        return
    console = open_output()
    print_fields(console, found)
    for chunk in parts[:chunks]:
        page = "" if chunk["page"] is None else f", page {chunk['page']}"
        console.print(
            Text(f"\nchunk {chunk['ordinal']}, characters {chunk['char_start']} to {chunk['char_end']}{page}", "dim")
        )
        text = plain(chunk["text"])
        console.print(Padding(Text(text if len(text) <= PREVIEW else f"{text[:PREVIEW]} …"), (0, 0, 0, 2)))
    if len(parts) > chunks:
        console.print(Text(f"\n… and {len(parts) - chunks} more of {len(parts)} chunks (--chunks, --json)", "dim"))


def open_content(document: Document, *, collection: Collection = None) -> None:
    """Print the link to the bytes of a document, as they were uploaded last.

    Example: curl -o paper.pdf "$(service open paper.pdf -c papers)"

    The link to a file works without a key, for five minutes. A JSON document has no file: the link is the
    service's own, answers its text, and needs the key. The exit code is 3 when there is no such document.
    """

    async def find(client: ServiceClient) -> tuple[str, bool]:
        found = await find_document(client, document, collection=collection)
        return await client.content_link(found["id"])

    link, is_open = ask(find)
    if not is_open and sys.stderr.isatty():
        note = "A text of the service: send the header Authorization: Bearer with your key."
        Console(stderr=True).print(note, style="dim", soft_wrap=True)
    open_output()
    typer.echo(link)


async def find_document(client: ServiceClient, name: str, *, collection: str | None) -> Json:
    """By id where it looks like one and no collection is named, else by external_id; raises NotThereError."""
    chosen: Json | None = None
    try:
        if collection is None and _is_id(name):
            return await client.find_document(name)
        chosen = await choose_collection(client, collection)
        return await client.find_named_document(chosen["name"], name)
    except ProblemError as problem:
        if problem.status != HTTPStatus.NOT_FOUND:
            raise
        where = f"in {chosen['name']!r}" if chosen else "of this id; --collection looks for an external_id"
        raise NotThereError(f"There is no document {name!r} {where}.") from None


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name.lower()
    except ValueError:
        return False


def print_fields(console: Console, document: Json) -> None:
    """What is set, in the order of the contract, with the attributes one by one."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in document.items():
        if name == "attributes":
            for key, each in value.items():
                table.add_row(Text(plain(f"attributes.{key}")), Text(spelled(each)))
        elif value not in (None, [], ""):
            table.add_row(name, Text(spelled(value)))
    console.print(table)


def spelled(value: object) -> str:
    """Text as it is, anything else as JSON."""
    return plain(value if isinstance(value, str) else orjson.dumps(value).decode())
