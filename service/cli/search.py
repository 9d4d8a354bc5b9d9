"""`service search`: a question, and what a collection answers, for somebody at a terminal."""

from typing import Annotated

import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.cli.asking import NOTHING_FOUND, ask, complain, open_output, plain, print_json
from service.cli.client import Json
from service.cli.marking import PASSAGE, mark, passage
from service.cli.questions import GroupBy, Mode, Question

MARKED = "bold yellow"


def search(
    query: Annotated[str, typer.Argument(help='Words are OR; "a phrase" must occur, -word must not.')],
    *,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Where to search; not needed when there is only one.")
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", "-f", metavar="CONDITION", help="kind=function, 'line>=100', tags=async or JSON; all must hold."
        ),
    ] = None,
    mode: Annotated[
        Mode, typer.Option("--mode", "-m", help="Words and meaning, words alone, or meaning alone.")
    ] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Hits at most.")] = 10,
    group_by: Annotated[GroupBy, typer.Option(help="One hit for each document, or one for each passage.")] = "document",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer of the service, whole.")] = False,
) -> None:
    """Search a collection and show the passage that matched, with the words of the query marked.

    Example: service search "open a file" -c python-docs -f kind=function -f deprecated=false

    A condition is a column (external_id, title, source, tags, published_at, language) or an attribute, one of
    = != > >= < <= (quoted: the shell has its own > and <), and a value, read as the type that the collection
    declares, else as a number, true, false or null where it reads like one, else as text. On a list, tags=async asks
    whether it has the value. JSON is the filter of the API: '{"tags": {"$overlap": ["async", "exception"]}}'.

    The exit code is 3 when nothing was found. The service is SERVICE_URL with SERVICE_API_KEY, else the one that
    `make run` started here.
    """
    question = Question(
        query=query,
        collection=collection,
        conditions=tuple(conditions or ()),
        mode=mode,
        limit=limit,
        group_by=group_by,
    )
    answer = ask(question.ask)
    for warning in answer["warnings"]:
        complain(f"{warning['message']} ({warning['code']})", word="Note")
    if as_json:
        print_json(answer)
    else:
        print_hits(open_output(), answer, query=query)
    if not answer["hits"]:
        raise typer.Exit(NOTHING_FOUND)


def print_hits(console: Console, answer: Json, *, query: str, length: int = PASSAGE) -> None:
    """A row for each hit, narrow enough for any terminal: title, name and passage stand below one another."""
    if not answer["hits"]:
        console.print("Nothing was found.")
        return
    table = Table("#", "score", "document", box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.columns[0].justify = table.columns[1].justify = "right"
    style = MARKED if console.is_terminal and not console.is_dumb_terminal else None
    for rank, hit in enumerate(answer["hits"], start=1):
        table.add_row(str(rank), f"{hit['score']:.3f}", Group(*_lines(hit, query=query, style=style, length=length)))
    console.print(table)
    console.print(f"{len(answer['hits'])} hits in {answer['took_ms']:.0f} ms, by {answer['profile']}", style="dim")


def _lines(hit: Json, *, query: str, style: str | None, length: int) -> list[Text | Padding]:
    name = plain(hit["external_id"] or hit["document_id"])
    title = plain(hit["title"] or "")
    lines: list[Text | Padding] = []
    if title:
        heading = mark(title, query, style=style)
        heading.style = "bold"
        lines.append(heading)
    if not title.startswith(name):
        lines.append(Text(name, style="dim"))
    if hit["chunks"]:
        text = passage(plain(hit["chunks"][0]["text"]), query, length=length)
        lines.append(Padding(mark(text, query, style=style), (0, 0, 1, 2)))
    return lines
