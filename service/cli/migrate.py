"""`service migrate`: the five steps of a schema change, each a command, on the direct URL as the migrator."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.cli.accounts import CaFile, DatabaseTls, DirectUrl
from service.cli.lint import lint
from service.cli.migration_tables import show_state
from service.cli.new_migration import new
from service.cli.sentences import or_exit
from service.db.addresses import Tls, with_tls
from service.db.backfill import SHARE, Backfill, due, fill, find_backfill
from service.db.history import State, read_state
from service.db.migrate import upgrade
from service.db.owner import as_owner
from service.db.profiles import ensure_profile
from service.domain.releases import GateClosedError, order
from service.embeddings.loading import describe_model
from service.release import NEEDS, RELEASE

T = TypeVar("T")
Model = Annotated[str, typer.Option(envvar="EMBEDDING_MODEL", help="Its profile is made where it is missing.")]
MODEL = "all-MiniLM-L6-v2"
KNOCK_SECONDS = 2.0  # between two tries of a gate

app = typer.Typer(
    help="Change the schema while the service runs: expand, backfill, contract.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


def done(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return or_exit(lambda: asyncio.run(work()))


def address(direct_url: str, tls: Tls | None, ca_file: Path | None) -> str:
    return or_exit(lambda: with_tls(direct_url, tls, ca_file))


@app.callback()
def migrate(
    context: typer.Context,
    direct_url: Annotated[str, typer.Option(envvar="DATABASE_DIRECT_URL", help="The migrator, without a pooler.")] = "",
    *,
    embedding_model: Model = MODEL,
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Without a command: everything that may run now. Expand, then the backfills, then contract as far as its gates allow."""
    if context.invoked_subcommand is not None:
        return
    if not direct_url:
        raise typer.BadParameter("or DATABASE_DIRECT_URL: the migrator, without a pooler", param_hint="--direct-url")
    url = address(direct_url, database_tls, ca_file)
    closed = done(lambda: all_that_may(url, embedding_model))
    state = done(lambda: read_state(url))
    if state.unknown:
        typer.echo(f"A newer release has migrated this database: nothing to do for release {RELEASE}.")
    else:
        typer.echo("The database is up to date." if closed is None else f"Left to do: {closed}")
    refusals = [f"release {RELEASE} needs migration {NEEDS}, which this database has not seen"] * (not state.has(NEEDS))
    if state.floor and order(RELEASE) < order(state.floor):
        refusals.append(f"the schema of this database needs release {state.floor} or newer, and this is {RELEASE}")
    for refusal in refusals:
        typer.echo(f"Error: {refusal}.", err=True)
    if refusals:
        raise typer.Exit(1)


async def all_that_may(url: str, embedding_model: str) -> GateClosedError | None:
    """What a gate said, or None where nothing is left; what a newer release has migrated is left to it."""
    state = await read_state(url)
    if state.unknown:
        await make_profile(url, embedding_model)
        return None
    if not state.is_empty:
        await upgrade(url, "expand@head")
        await fill_all(url)
    try:
        await upgrade(url)
    except GateClosedError as closed:
        return closed
    finally:
        await make_profile(url, embedding_model)
    return None


async def make_profile(url: str, embedding_model: str) -> None:
    name, dimension = await asyncio.to_thread(describe_model, embedding_model)
    await ensure_profile(url, name=name, dimension=dimension)


async def fill_all(url: str) -> None:
    async with as_owner(url) as connection:
        found = await due(connection)
    for backfill in found:
        await fill_one(url, backfill, share=SHARE)


@app.command("expand")
def expand(
    direct_url: DirectUrl,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL and the locks it takes; change nothing.")
    ] = False,
    embedding_model: Model = MODEL,
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Step 1: add what the new release needs. The old one goes on running and notices nothing."""
    url = address(direct_url, database_tls, ca_file)
    if dry_run:
        return show_dry_run(url, "expand")

    async def work() -> None:
        await upgrade(url, "expand@head")
        await make_profile(url, embedding_model)

    done(work)
    typer.echo("Expanded. Deploy the new release; when no older one is left, run `service migrate backfill`.")
    return None


@app.command("backfill")
def backfill(
    direct_url: DirectUrl,
    *,
    name: Annotated[str | None, typer.Argument(help="One of them; without a name, all that are due.")] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of the time in which it works; it sleeps the rest.")
    ] = SHARE,
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Step 3: give old rows their value, a thousand at a time. Resumes where it was stopped; safe to repeat."""
    url = address(direct_url, database_tls, ca_file)

    async def work() -> None:
        async with as_owner(url) as connection:
            found = await due(connection)
        wanted = found if name is None else [find_backfill(name)]
        for each in wanted:
            if each not in found:
                typer.echo(
                    f"{each.name}: nothing to do, its migration {each.after} is not there yet or {each.until} sealed it."
                )
                continue
            await fill_one(url, each, share=share)
        if not wanted:
            typer.echo("No backfill is due.")

    done(work)


async def fill_one(url: str, backfill: Backfill, *, share: float) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(backfill.name, total=1.0, told="")
        changed = 0
        async for progress in fill(url, backfill, share=share):
            changed = progress.changed
            told = f"{progress.looked_at:,} rows looked at, {changed:,} filled, pass {progress.passes + 1}"
            bar.update(task, completed=progress.share, told=told)
    typer.echo(f"{backfill.name}: finished, {changed:,} rows filled.")


@app.command("contract")
def contract(
    direct_url: DirectUrl,
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the gates to open.")] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL and the locks it takes; change nothing.")
    ] = False,
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Steps 4 and 5: seal what was filled, and remove what no release uses. A closed gate stops it, and says why."""
    url = address(direct_url, database_tls, ca_file)
    if dry_run:
        return show_dry_run(url, "contract")

    async def work() -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            try:
                return await upgrade(url, "contract@head")
            except GateClosedError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(KNOCK_SECONDS)

    done(work)
    typer.echo("Contracted: the schema is what this release says.")
    return None


@app.command("to")
def to(
    direct_url: DirectUrl,
    *,
    revision: Annotated[str, typer.Argument(help="A revision, or `expand@head`, `contract@head`, `heads`.")],
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """Bring the schema to one revision, for example to try a release on it."""
    done(lambda: upgrade(address(direct_url, database_tls, ca_file), revision))
    typer.echo(f"The database is at {revision}.")


@app.command("status")
def status(
    direct_url: DirectUrl,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    database_tls: DatabaseTls = None,
    ca_file: CaFile = None,
) -> None:
    """What ran, what is left, who runs, and how far the backfills are."""
    state: State = done(lambda: read_state(address(direct_url, database_tls, ca_file)))
    if as_json:
        typer.echo(json.dumps(asdict(state), default=str))
    else:
        show_state(state)


def show_dry_run(url: str, phase: str) -> None:
    """What of the dry run is slow to load is loaded here."""
    from service.cli.dry_run import dry_run  # noqa: PLC0415  it parses SQL, which the other commands do not

    typer.echo(done(lambda: asyncio.to_thread(dry_run, url, phase=phase)))


app.command("new")(new)
app.command("lint")(lint)
