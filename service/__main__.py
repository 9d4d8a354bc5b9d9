"""The doors: `python -m service …`."""

import sys
from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

# A door is opened by importing its module: what one command needs must not slow the start of another.
DOORS = {
    "run": "service.cli.run:run",
    "serve": "service.cli.serve:serve",
    "worker": "service.cli.serve:worker",
    "migrate": "service.cli.migrate:app",
    "branch": "service.cli.branch:app",
    "roles": "service.cli.accounts:roles",
    "keys": "service.cli.accounts:keys",
    "jobs": "service.cli.jobs:app",
    "blobs": "service.cli.blobs:app",
    "stats": "service.cli.stats:app",
    "doctor": "service.cli.doctor:doctor",
    "sample": "service.cli.sample.command:sample",
    "ingest": "service.cli.ingest:ingest",
    "search": "service.cli.search:search",
    "collections": "service.cli.overview:collections",
    "status": "service.cli.overview:status",
    "show": "service.cli.show:show",
    "open": "service.cli.show:open_content",
    "eval": "service.cli.evaluate:evaluate",
    "bench": "service.cli.figures.commands:bench",
}


class Doors(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  typer does not export click's types
        return list(DOORS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002
        if cmd_name not in DOORS:
            return None
        module, _, attribute = DOORS[cmd_name].partition(":")
        door = getattr(import_module(module), attribute)
        if not isinstance(door, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            single.command(cmd_name)(door)
            door = single
        command = typer.main.get_command(door)
        command.name = cmd_name
        return command


INSTALLED = "hybrid-search"  # The script beside the interpreter: Debian has a `service` of its own.

app = typer.Typer(cls=Doors, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def service() -> None:
    """Hybrid search over documents: pgvector + R2."""


def main() -> None:
    """The installed command."""
    app(prog_name=INSTALLED)


if __name__ == "__main__":
    # A shell completes what is typed as the first word, and that is `python` here.
    app(prog_name=INSTALLED if any("-completion" in word for word in sys.argv[1:2]) else "service")
