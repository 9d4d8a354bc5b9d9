"""`service migrate lint`: every migration's SQL against the rules of a change without downtime."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.sentences import or_exit
from service.db.lint.check import lint as look
from service.db.migrate import MIGRATIONS


def lint(
    migrations: Annotated[Path, typer.Option(help="The folder of the history.", show_default=False)] = MIGRATIONS,
) -> None:
    """Check the SQL of every migration, without a database; status 1 and a sentence for each finding.

    An exception stands in the migration's file: `LINT_EXCEPTIONS = {"rule": "reason"}`.
    """
    found = or_exit(lambda: look(migrations))
    for finding in found:
        typer.echo(str(finding), err=True)
    if found:
        typer.echo(f"Findings: {len(found)}", err=True)
        raise typer.Exit(1)
    typer.echo("The migrations keep every rule.")
