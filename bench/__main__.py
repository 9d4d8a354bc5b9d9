"""`python -m bench`: measure the service, compare two results, and show them."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.compare import compare
from bench.dataset import load
from bench.failures import BenchError
from bench.opened import Target
from bench.pace import PACES
from bench.plot import draw
from bench.readme import write_readme
from bench.report import page
from bench.result import read_result, write_result
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


@contextmanager
def told_plainly() -> Iterator[None]:
    """What goes wrong in a sentence, without a traceback."""
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


@app.command(name="run")
def run_(
    *,
    name: Annotated[str, typer.Option(help="Of the result: results/<name>.json.")] = "latest",
    pace: Annotated[str, typer.Option(help=f"{' or '.join(PACES)}.")] = "full",
    folder: Annotated[Path, typer.Option(help="Where a service of its own and computed vectors are kept.")] = FOLDER,
    results: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS,
    seed: Annotated[int, typer.Option(help="Of order, numbers and made up texts.")] = 0,
) -> None:
    """Measure a service of its own, or the one at SERVICE_URL with SERVICE_API_KEY, and write what was found."""
    if pace not in PACES:
        raise typer.BadParameter(f"there are {', '.join(PACES)}", param_hint="--pace")
    chosen, url = PACES[pace], os.environ.get("SERVICE_URL")
    target = Target(url, os.environ.get("SERVICE_API_KEY", "")) if url else None
    say("Texts, queries and their vectors")
    data = Path(os.environ.get("DATA") or DATA)
    with told_plainly():
        dataset = load(
            chosen.sizes[-1],
            queries=chosen.queries,
            seed=seed,
            data=data if data.is_dir() else None,
            cache=folder / "vectors",
        )
        options = Options(name, chosen, target, folder / "state")
        found = asyncio.run(run(options, dataset, say=say))
    file = results / f"{name}.json"
    write_result(found, file)
    say(f"Written: {file}")


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
    readme: Annotated[bool, typer.Option("--readme", help="Write its table into README.md instead.")] = False,
) -> None:
    """Print a result as one page of Markdown."""
    with told_plainly():
        result = read_result(file)
        if readme:
            write_readme(README, result)
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
