"""`python -m rehearsal`: releases side by side while the schema changes below them, on this machine, within minutes."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rehearsal import branched
from rehearsal.failures import RehearsalError
from rehearsal.ground import open_ground
from rehearsal.kills import kill_each
from rehearsal.live import Outcome, Size, live
from rehearsal.plan import Plan
from rehearsal.releases import Release, take_releases, unfinished
from rehearsal.report import Report, as_json, show
from rehearsal.schemas import stages_between
from rehearsal.unsafe import try_plants
from rehearsal.walk import walk
from service.cli.address import DATA_DIR
from service.local.errors import StackError

ROOT = Path(__file__).resolve().parents[1]
LIVE = "live"
ENDING = (signal.SIGTERM, signal.SIGHUP)
PARTS = ("schemas", "live", "unsafe", "kills")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
say = Console(stderr=True, highlight=False)


@app.command()
def rehearse(
    *,
    part: Annotated[
        list[str] | None, typer.Option(help=f"Only this one of {', '.join(PARTS)}; may be repeated.")
    ] = None,
    release: Annotated[
        list[str] | None, typer.Option(help="A version to take part, instead of the three newest; repeat it.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.5, help="It stops by itself after so long.")] = 8.0,
    window: Annotated[float, typer.Option(min=1, help="Seconds that each judged phase is watched at least.")] = 20.0,
    on_branch: Annotated[
        bool, typer.Option("--on-branch", help="The live part on a branch of the data that `make run` serves.")
    ] = False,
    data_dir: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Where that is.")] = Path(DATA_DIR),
    json: Annotated[bool, typer.Option("--json", help="The report for programs.")] = False,
) -> None:
    """Rehearse the way from the older releases to this one; exit code 1 when a goal is missed."""
    parts = part or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(PARTS)}", param_hint="--part")
    try:
        with temporary_folder() as folder:
            releases = take_releases(ROOT, folder / "releases", wanted=release or ())
            announce(releases)
            branch_of = data_dir if on_branch else None
            work = perform(releases, folder, parts, seconds=minutes * 60, size=Size(window=window), branch_of=branch_of)
            report = asyncio.run(until_told(work))
    except (RehearsalError, StackError) as error:
        say.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
    if json:
        typer.echo(as_json(report))
    else:
        show(report, Console())
    raise typer.Exit(not report.met)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def announce(releases: list[Release]) -> None:
    say.print(f"Rehearsing {' -> '.join(map(str, releases))}", markup=False)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        say.print(f"The machine is busy (load {load:.1f} on {cores} cores): searches will be slow whoever migrates.")
    if changed := unfinished(ROOT):
        say.print(
            f"Not committed, so not rehearsed: {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}", markup=False
        )


async def until_told(work: Coroutine[Any, Any, Report]) -> Report:
    """SIGTERM and SIGHUP end it as Ctrl-C does: everything that was started is stopped first."""
    task = asyncio.ensure_future(work)
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def perform(
    releases: list[Release], folder: Path, parts: list[str], *, seconds: float, size: Size, branch_of: Path | None
) -> Report:
    """One part after the other; what goes wrong in one does not stop the next, and time does."""
    begun, report = time.monotonic(), Report([str(release) for release in releases])
    stages = stages_between(releases[0].tree, releases[-1].tree)
    async with open_ground(folder / "stack") as ground:
        plan = Plan(ground, releases, stages)
        try:
            for name, part in steps(plan, folder, size, report, branch_of).items():
                if name not in parts:
                    continue
                say.print(f"{name} …")
                try:
                    async with asyncio.timeout(seconds - (time.monotonic() - begun)):
                        await part()
                except TimeoutError:
                    report.broken.append(f"{name}: the {seconds / 60:g} minutes are over (--minutes)")
                except RehearsalError as error:
                    report.broken.append(f"{name}: {error}")
                except Exception as error:  # noqa: BLE001 - whatever it is, the other parts can still be tried
                    say.print_exception()
                    report.broken.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            for number in ENDING:  # All that was started is being stopped, which a second signal must not cut short.
                asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    report.seconds = time.monotonic() - begun
    return report


@asynccontextmanager
async def place_of(plan: Plan, branch_of: Path | None) -> AsyncIterator[tuple[Plan, str]]:
    """A database with the oldest release's schema: a new one, or a branch of what `make run` keeps in a folder."""
    if branch_of is not None:
        async with branched.on_branch(plan, branch_of) as (left, database):
            yield left, database
        return
    await plan.ground.make_database(LIVE, plan.releases[0])
    yield plan, LIVE
    await plan.ground.drop_database(LIVE)


def steps(
    plan: Plan, folder: Path, size: Size, report: Report, branch_of: Path | None
) -> dict[str, Callable[[], Awaitable[None]]]:
    async def schemas() -> None:
        report.meetings = await walk(plan)

    async def under_load() -> None:
        async with place_of(plan, branch_of) as (here, database):
            report.live = Outcome(here.ground.pooling)
            await live(here, size, database, report.live)

    async def unsafe() -> None:
        report.caught = await try_plants(plan, folder)

    async def kills() -> None:
        report.killed = await kill_each(plan, folder)

    return dict(zip(PARTS, (schemas, under_load, unsafe, kills), strict=True))


if __name__ == "__main__":
    app()
