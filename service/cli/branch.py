"""`service branch`: a copy of the database to try things on, with a prefix of its own for objects."""

import asyncio
import json
import os
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from service.branches import objects
from service.branches.postgres import PostgresBranches, Way
from service.cli.branch_address import find_branches, settings_of, words_of
from service.cli.failures import CommandError
from service.cli.own_settings import own_settings
from service.cli.sentences import or_exit
from service.domain.branches import PRIMARY, Branch, Copied, check_name
from service.resources import open_blobs
from service.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    help="Make, list, reset and delete branches: copies of the database to try things on.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(help="As git names branches: preview/pr-12.", show_default=False)]
ChosenWay = Annotated[
    Way,
    typer.Option(
        help="`template` copies on the server and needs a parent that nobody is connected to, `dump` disturbs nobody; `auto`"
        " takes the first that can be."
    ),
]


@app.command("create")
def create(
    name: Name,
    *,
    parent: Annotated[str, typer.Option(help="What it is a copy of.")] = PRIMARY,
    expires_in_hours: Annotated[float | None, typer.Option(min=0, help="When `delete --expired` takes it.")] = None,
    protect: Annotated[bool, typer.Option("--protect", help="Never reset, never deleted.")] = False,
    way: ChosenWay = "auto",
) -> None:
    """Make a branch of the present state; whoever uses the parent goes on undisturbed."""
    _, branches = opened(way)
    expires_at = None if expires_in_hours is None else datetime.now(UTC) + timedelta(hours=expires_in_hours)
    say(ran(branches.create(name, parent=parent, expires_at=expires_at, protected=protect)), "is made")


@app.command("list")
def show(*, as_json: Annotated[bool, typer.Option("--json", help="A line for each.")] = False) -> None:
    """List the branches, the primary first."""
    _, branches = opened()
    found = ran(branches.list())
    if as_json:
        for each in found:
            typer.echo(json.dumps(vars(each), default=lambda time: time.isoformat()))
    else:
        Console().print(table(found), highlight=False)


@app.command("uri")
def uri(
    name: Name, *, form: Annotated[Literal["env", "json"], typer.Option("--format", help="How it is written.")] = "env"
) -> None:
    """Print the variables with which a service runs on the branch: `env $(service branch uri x) PORT=8100 service serve`."""
    settings, branches = opened()
    addresses = ran(branches.uri(name))
    try:
        words = words_of(settings_of(settings, name, addresses), plain=form == "env")
    except CommandError as error:
        raise failed(error) from None
    typer.echo(json.dumps(words, indent=2) if form == "json" else "\n".join(f"{k}={v}" for k, v in words.items()))


@app.command("reset")
def reset(name: Name, *, way: ChosenWay = "auto") -> None:
    """Bring a branch back to its parent's present state, and remove the objects that it had written."""
    settings, branches = opened(way)

    async def run() -> tuple[Copied, int]:
        blobs = open_blobs(settings_of(settings, check_name(name)))
        try:
            return await objects.reset(name, branches=branches, blobs=blobs)
        finally:
            await blobs.close()

    copied, removed = ran(run())
    say(copied, f"is as its parent is now (objects of its own removed: {removed})")


@app.command("delete")
def delete(
    name: Annotated[str | None, typer.Argument(help="Which one.", show_default=False)] = None,
    *,
    expired: Annotated[bool, typer.Option("--expired", help="All that have expired instead.")] = False,
    leftovers: Annotated[
        bool, typer.Option("--leftovers", help="Objects, too, of a branch whose database is gone already.")
    ] = False,
) -> None:
    """Delete a branch: its database with whoever is connected to it, then the objects under its own prefix."""
    if (name is None) is not expired:
        raise failed(CommandError("Name a branch, or say --expired."))
    settings, branches = opened()

    async def run(each: str) -> int:
        blobs = open_blobs(settings_of(settings, check_name(each)))
        try:
            return await objects.delete(each, branches=branches, blobs=blobs, leftovers=leftovers)
        finally:
            await blobs.close()

    names = [name] if name is not None else ran(expired_names(branches))
    for each in names:
        removed = ran(run(each))
        typer.echo(f"The branch {each} is deleted, objects of its own: {removed}.")
    if not names:
        typer.echo("No branch has expired.")


async def expired_names(branches: PostgresBranches) -> list[str]:
    """Branches of branches first."""
    now = datetime.now(UTC)
    found = [each for each in await branches.list() if each.expires_at is not None and each.expires_at < now]
    return [each.name for each in sorted(found, key=lambda each: str(each.created_at), reverse=True)]


def opened(way: Way = "auto") -> tuple[Settings, PostgresBranches]:
    try:
        settings = own_settings(os.environ)
        return settings, find_branches(settings, os.environ, way=way)
    except CommandError as error:
        raise failed(error) from None


def ran(work: Coroutine[Any, Any, T]) -> T:
    return or_exit(lambda: asyncio.run(work))


def failed(error: CommandError) -> typer.Exit:
    typer.echo(f"Error: {error}", err=True)
    return typer.Exit(error.exit_code)


def say(copied: Copied, done: str) -> None:
    branch = copied.branch
    taken = "" if copied.taken is None else f", of which {copied.taken / 1e6:.1f} MB went from the disk"
    why = f" ({copied.why})" if copied.why else ""
    typer.echo(
        f"The branch {branch.name} {done} by {branch.way}{why} in {copied.seconds:.1f} s: {(branch.size or 0) / 1e6:.1f} MB{taken}."
    )


def table(found: list[Branch]) -> Table:
    shown = Table("branch", "parent", "state", "created", "expires", "MB", "made by", box=None)
    for each in found:
        state = "primary" if each.primary else each.state + (", protected" if each.protected else "")
        times = [f"{time:%Y-%m-%d %H:%M}" if time else "" for time in (each.created_at, each.expires_at)]
        size = "" if each.size is None else f"{each.size / 1e6:.1f}"
        shown.add_row(each.name, each.parent or "", state, *times, size, each.way)
    return shown
