"""`python -m bench`: measure the service, compare two results, and show them."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.beside import run_beside
from bench.compare import compare
from bench.dataset import Dataset, load
from bench.failures import BenchError
from bench.opened import Target
from bench.pace import FULL, PACES, Pace
from bench.plot import draw
from bench.prepare import prepare
from bench.readme import write_readme
from bench.report import page
from bench.result import read_result, slim, write_result
from bench.run import Options, run

FOLDER = Path(".bench")
RESULTS = Path(__file__).with_name("results")
PUBLISHED = RESULTS / "published.json"  # The one that is committed, of which the README shows a table.
README = Path(__file__).resolve().parents[1] / "README.md"
DATA = "../shared/data"  # Beside the repository, as for the figures of `service bench`.

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    console.print(f"[dim]{datetime.now().astimezone():%H:%M:%S}[/dim] {text}", soft_wrap=True)


def as_interrupt(_number: int, _frame: object) -> None:
    """So that a service of our own is stopped by SIGTERM too."""
    signal.raise_signal(signal.SIGINT)


@contextmanager
def told_plainly() -> Iterator[None]:
    """What goes wrong in a sentence, without a traceback."""
    signal.signal(signal.SIGTERM, as_interrupt)
    try:
        yield
    except BenchError as error:
        console.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.callback()
def bench() -> None:
    """Measure the service, compare two results, and show them."""


Named = Annotated[str, typer.Option(help="Of the result: results/<name>.json.")]
Paced = Annotated[str, typer.Option(help=f"{' or '.join(PACES)}.")]
Seed = Annotated[int, typer.Option(help="Of order, numbers and made up texts.")]
Kept = Annotated[Path, typer.Option(help="Where a service of its own and computed vectors are kept.")]
Results = Annotated[Path, typer.Option(help="Where results go.")]


@app.command(name="run")
def run_(
    *,
    name: Named = "latest",
    pace: Paced = "full",
    folder: Kept = FOLDER,
    results: Results = RESULTS,
    seed: Seed = 0,
) -> None:
    """Measure a service of its own, or the one at SERVICE_URL with SERVICE_API_KEY, and write what was found."""
    with told_plainly():
        options = Options(name, chosen(pace), target_of("SERVICE"), folder / "state")
        dataset = loaded(options.pace, seed, folder)
        file = results / f"{name}.json"
        asyncio.run(run(options, dataset, say=say, keep=lambda found: write_result(found, file)))
    say(f"Written: {results / name}.json")


@app.command()
def beside(
    *,
    name: Named = "beside",
    pace: Paced = "full",
    folder: Kept = FOLDER,
    results: Results = RESULTS,
    seed: Seed = 0,
    margin: Annotated[float, typer.Option(min=0, help="What may be worse, as a share.")] = 0.05,
) -> None:
    """Measure SERVICE_URL (or a service of its own) and OTHER_URL in the same rounds, and compare the second with the first."""
    with told_plainly():
        options, other = Options(name, chosen(pace), target_of("SERVICE"), folder / "state"), target_of("OTHER")
        if other is None:
            raise BenchError("OTHER_URL and OTHER_API_KEY say which service is the second.")
        dataset = loaded(options.pace, seed, folder)
        old, new = results / f"{name}.json", results / f"{name}-other.json"
        for file, found in zip((old, new), asyncio.run(run_beside(options, other, dataset, say=say)), strict=True):
            write_result(found, file)
    compare_(old, new, margin=margin)


@app.command(name="prepare")
def prepare_(
    *,
    documents: Annotated[int, typer.Option(min=1)] = FULL.sizes[-1],
    queries: Annotated[int, typer.Option(min=2)] = FULL.queries,
    folder: Kept = FOLDER,
    seed: Seed = 0,
) -> None:
    """Fill a collection of the service at SERVICE_URL, and write what to ask it into queries.json, for Locust and k6."""
    with told_plainly():
        if (target := target_of("SERVICE")) is None:
            raise BenchError("SERVICE_URL and SERVICE_API_KEY say which service is filled.")
        dataset = loaded(replace(FULL, sizes=(documents,), queries=queries), seed, folder)
        prepared = asyncio.run(prepare(target, dataset, folder / "queries.json"))
    say(f"Collection {prepared['collection']}; {len(prepared['queries']):,} queries in {folder / 'queries.json'}")


def chosen(pace: str) -> Pace:
    if pace not in PACES:
        raise BenchError(f"There is no pace {pace!r}: there are {', '.join(PACES)}.")
    return PACES[pace]


def target_of(prefix: str) -> Target | None:
    url = os.environ.get(f"{prefix}_URL")
    return Target(url.rstrip("/"), os.environ.get(f"{prefix}_API_KEY", "")) if url else None


def loaded(pace: Pace, seed: int, folder: Path) -> Dataset:
    say("Texts, queries and their vectors")
    data = Path(os.environ.get("DATA") or DATA)
    return load(
        pace.sizes[-1],
        queries=pace.queries,
        seed=seed,
        data=data if data.is_dir() else None,
        cache=folder / "vectors",
    )


@app.command(name="compare")
def compare_(
    old: Annotated[Path, typer.Argument(help="A result.")],
    new: Annotated[Path, typer.Argument(help="One of the same data and pace, of other code or settings.")],
    margin: Annotated[
        float, typer.Option(min=0, help="What may be worse, as a share; never less than the noise.")
    ] = 0.1,
) -> None:
    """Print what changed; exit code 1 when something is worse beyond the margin with 95 % confidence."""
    with told_plainly():
        verdicts = compare(read_result(old), read_result(new), margin=margin)
    table = Table("what", "old", "new", "worse by", "at least", "margin", "verdict")
    for each in verdicts:
        verdict = "[red]regressed[/red]" if each.regressed else "[green]ok[/green]"
        changes = (f"{each.ratio - 1:+.1%}", f"{each.at_least - 1:+.1%}", f"{each.margin:.1%}")
        table.add_row(each.what, f"{each.old:.4g}", f"{each.new:.4g}", *changes, verdict)
    Console().print(table)
    raise typer.Exit(any(each.regressed for each in verdicts))


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="A result.")] = PUBLISHED,
    *,
    readme: Annotated[
        bool,
        typer.Option("--readme", help="Put its table into README.md and what it is made from into the repository."),
    ] = False,
) -> None:
    """Print a result as one page of Markdown."""
    with told_plainly():
        result = read_result(file)
        if readme:
            write_result(slim(result.found), PUBLISHED)
            write_readme(README, read_result(PUBLISHED))
        else:
            typer.echo(page(result), nl=False)


@app.command()
def plot(
    file: Annotated[Path, typer.Argument(help="A result.")] = PUBLISHED,
    *,
    folder: Annotated[Path | None, typer.Option(help="Where pictures go; beside the result by default.")] = None,
    kind: Annotated[str, typer.Option(help="svg or png.")] = "svg",
) -> None:
    """Draw latency over load, recall over latency, filters and growth."""
    with told_plainly():
        for picture in draw(read_result(file), folder or file.parent, kind=kind):
            typer.echo(picture)


if __name__ == "__main__":
    sys.exit(app())
