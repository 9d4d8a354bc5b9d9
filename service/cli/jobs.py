"""`service jobs list|retry`: what waits, runs or is dead in the queue."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from service.cli.sentences import load_settings, or_exit
from service.db import indexing, jobs
from service.db.primary import Primary
from service.resources import open_primary

T = TypeVar("T")

app = typer.Typer(help="Look at the queue, and try dead jobs again.", no_args_is_help=True, add_completion=False)


@app.command("list")
def list_jobs(
    *,
    state: Annotated[str | None, typer.Option(help="queued, running or dead; all by default.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
) -> None:
    """List jobs, the oldest first."""
    if state not in {None, "queued", "running", "dead"}:
        typer.echo(f"Error: there is no state {state!r}: queued, running or dead", err=True)
        raise typer.Exit(1)

    async def run(primary: Primary) -> list[jobs.JobSummary]:
        async with primary.begin() as connection:
            return await jobs.summaries(connection, state=state, limit=limit)

    found = with_primary(run)
    table = Table("id", "kind", "state", "attempt", "due", "document", "last error", title=f"{len(found)} jobs")
    for job in found:
        due = job.run_at.isoformat(timespec="seconds")
        document = "" if job.document_id is None else str(job.document_id)
        table.add_row(str(job.id), job.kind, job.state, str(job.attempt), due, document, job.last_error or "")
    Console().print(table)


@app.command("retry")
def retry_jobs(
    ids: Annotated[list[UUID] | None, typer.Argument(help="Dead jobs; without any, all of them need --all.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every dead job.")] = False,
) -> None:
    """Queue dead jobs again, with all their attempts; their documents are pending again."""
    if bool(ids) == every:
        typer.echo("Error: name the jobs, or say --all", err=True)
        raise typer.Exit(1)

    revived = with_primary(lambda primary: revive_dead(primary, ids or None))
    typer.echo(f"{revived} jobs are queued again.")


async def revive_dead(primary: Primary, ids: Sequence[UUID] | None) -> int:
    """How many of these jobs, or of all dead ones, are queued again; each with its document in one transaction."""
    async with primary.begin() as connection:
        found = await jobs.dead(connection, ids)
    revived = 0
    for job in found:
        async with primary.begin(job.tenant_id) as connection:
            revived += await indexing.revive(connection, job)
    return revived


def with_primary(action: Callable[[Primary], Awaitable[T]]) -> T:
    settings = load_settings()

    async def run() -> T:
        primary = open_primary(settings)
        try:
            return await action(primary)
        finally:
            await primary.close()

    return or_exit(lambda: asyncio.run(run()))
