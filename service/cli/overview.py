"""`service collections` and `service status`: what there is, and how far it is."""

from typing import Annotated

import typer
from rich.table import Table

from service.cli.asking import ask, choose_collection, open_output, print_json
from service.cli.client import Json, ServiceClient

NONE_YET = "There is no collection yet: `make sample` makes one."

AsJson = Annotated[bool, typer.Option("--json", help="Print the answers of the service as JSON.")]


def collections(*, as_json: AsJson = False) -> None:
    """List the collections with their language and declared attributes, the newest first.

    Example: service collections
    """

    async def find(client: ServiceClient) -> list[Json]:
        return [collection async for collection in client.list_collections()]

    found = ask(find)
    if as_json:
        print_json({"collections": found})
        return
    table = Table("name", "language", "attributes", "created", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for one in found:
        declared = ", ".join(f"{name} {type_}" for name, type_ in sorted(one["attributes"].items()))
        table.add_row(one["name"], one["language"], declared, one["created_at"][:10])
    open_output().print(table if found else NONE_YET)


def status(
    collection: Annotated[str | None, typer.Argument(help="One collection; all of them when it is left out.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show how many documents are searchable, waiting or failed, and whether everything accepted can be found.

    Example: service status python-docs

    `settled` means that nothing waits and that the word statistics include every document. `service jobs list` on
    the machine of the service shows why jobs are dead.
    """

    async def find(client: ServiceClient) -> dict[str, Json]:
        if collection is not None:
            names = [(await choose_collection(client, collection))["name"]]
        else:
            names = [one["name"] async for one in client.list_collections()]
        return {name: await client.find_status(name) for name in names}

    found = ask(find)
    if as_json:
        print_json(found)
        return
    table = Table("collection", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("indexed", "pending", "processing", "failed", "dead jobs"):
        table.add_column(heading, justify="right")
    table.add_column("settled")
    for name, one in found.items():
        counts = [one["documents"][state] for state in ("indexed", "pending", "processing", "failed")]
        counts.append(one["jobs"]["dead"])
        table.add_row(name, *(f"{count:,}" for count in counts), "yes" if one["settled"] else "not yet")
    open_output().print(table if found else NONE_YET)
