"""What every figure prints: what was measured, the goal, the number, and whether it is met."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from service.cli.address import find_address
from service.cli.client import ServiceClient, open_client
from service.cli.failures import CommandError

DATA = "../shared/data"  # Beside the repository; the variable DATA names another place.


@dataclass(frozen=True)
class Figure:
    what: str
    goal: str
    measured: str
    met: bool


def report(measuring: Coroutine[object, object, Figure | Sequence[Figure]]) -> None:
    """Measure, print, and end with exit code 1 when a goal is missed or nothing could be measured."""
    _say_if_busy()
    try:
        measured = asyncio.run(measuring)
    except CommandError as error:
        Console(stderr=True).print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    figures = [measured] if isinstance(measured, Figure) else measured
    table = Table("what", "goal", "measured", "verdict")
    for figure in figures:
        verdict = "[green]met[/green]" if figure.met else "[red]missed[/red]"
        table.add_row(figure.what, figure.goal, figure.measured, verdict)
    Console().print(table)
    raise typer.Exit(not all(figure.met for figure in figures))


def _say_if_busy() -> None:
    """Figures are of a machine that does nothing else; on another they say little, and that is said."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        Console(stderr=True).print(f"The machine is busy (load {load:.1f} on {cores} cores): the figure will be worse.")


@asynccontextmanager
async def open_own_collection(purpose: str) -> AsyncIterator[tuple[ServiceClient, str]]:
    """Open a client of the service that the environment names, with a collection that is gone afterwards."""
    async with open_client(find_address(os.environ)) as client, own_collection(client, purpose) as name:
        yield client, name


@asynccontextmanager
async def own_collection(client: ServiceClient, purpose: str) -> AsyncIterator[str]:
    name = f"bench-{purpose}-{uuid.uuid4().hex[:8]}"
    await client.create_collection(name, language="english")
    try:
        yield name
    finally:
        await client.delete_collection(name)


def data_folder(name: str) -> Path | None:
    folder = Path(os.environ.get("DATA") or DATA) / name
    return folder if folder.is_dir() else None
