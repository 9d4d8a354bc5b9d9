"""`python -m bench.peers`: the service and its peers over the same vectors, texts and filters, in one run."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench.dataset import load
from bench.failures import BenchError
from bench.peers.failures import PeerError
from bench.peers.report import Report, write_report
from bench.peers.rounds import ROUNDS
from bench.peers.run import PEERS, Run
from bench.peers.verdicts import exit_code, failure
from service.cli.figures.figure import DATA
from service.local.errors import StackError
from service.local.folder import StateFolder

STATE = Path(".local/bench")
ENDING = (signal.SIGTERM, signal.SIGHUP)
COLOURS = {"ok": "green", "missed": "red", "failed": "red", "no goal": "default"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
say = Console(stderr=True, highlight=False)


@app.command()
def peers(
    *,
    size: Annotated[int, typer.Option(min=1_000, help="How many documents.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; a figure is their median.")] = ROUNDS,
    only: Annotated[list[str] | None, typer.Option(help=f"Only this one of {', '.join(PEERS)}; repeat it.")] = None,
    data: Annotated[
        Path, typer.Option(envvar="DATA", help="A folder of corpora; without it texts are made up.")
    ] = Path(DATA),
    state: Annotated[Path, typer.Option(help="Where environments, vectors and results are kept.")] = STATE,
    minutes: Annotated[float, typer.Option(min=1, help="It ends by itself after so long.")] = 25.0,
) -> None:
    """Print every figure with its goal; exit code 1 when one is missed or a peer could not be measured."""
    if unknown := set(only or ()) - set(PEERS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(PEERS)}", param_hint="--only")
    say_if_busy()
    begun, state = time.monotonic(), state.absolute()
    place = StateFolder(state / "peers")
    try:
        dataset = load(size, data=data if data.is_dir() else None, cache=state / "vectors")
    except BenchError as error:
        say.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    report = Report(size, rounds, dataset.source)
    run = Run(dataset, fresh(place), state / "environments", tuple(only or PEERS), rounds, report, say)
    try:
        uvloop.run(until_told(run, seconds=60 * minutes - (time.monotonic() - begun)))
    except TimeoutError:
        report.rows.append(failure("the whole run", f"{minutes:g} minutes are over (--minutes)"))
    except (StackError, PeerError) as error:
        report.rows.append(failure("the service", error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
    show(report, Console())
    written = write_report(report, state / "results")
    say.print(f"Written: {', '.join(map(str, written))}", markup=False, soft_wrap=True)
    raise typer.Exit(exit_code(report.rows))


def fresh(place: StateFolder) -> StateFolder:
    """What an earlier run filled would make this one search more than it counts."""
    for name in ("service", "chroma", "libraries"):
        shutil.rmtree(place.path / name, ignore_errors=True)
    return place


async def until_told(run: Run, *, seconds: float) -> None:
    """SIGTERM and SIGHUP end it as Ctrl-C does: everything that was started is stopped first."""
    task = asyncio.ensure_future(run.all())
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait_for(task, seconds)


def say_if_busy() -> None:
    load_now, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load_now > cores / 2:
        say.print(f"The machine is busy (load {load_now:.1f} on {cores} cores): every figure will be worse.")


def show(report: Report, console: Console) -> None:
    table = Table("what, same run", "goal", "measured", "verdict", show_lines=True)
    for row in report.rows:
        outcome = f"[{COLOURS[row.outcome]}]{row.outcome}[/]"
        unequal = f"\nNot equal: {row.unequal}" if row.unequal else ""
        table.add_row(row.what, str(row.goal or "-"), f"{row.measured}{unequal}", outcome)
    console.print(table)


if __name__ == "__main__":
    app()
