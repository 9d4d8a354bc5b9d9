"""The doors: `python -m service …`."""

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
    "migrate": "service.cli.migrate:migrate",
    "roles": "service.cli.migrate:roles",
    "keys": "service.cli.migrate:keys",
    "jobs": "service.cli.jobs:app",
    "ingest": "service.cli.ingest:ingest",
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
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(door)
            door = single
        command = typer.main.get_command(door)
        command.name = cmd_name
        return command


app = typer.Typer(cls=Doors, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def service() -> None:
    """Hybrid search over documents: pgvector + R2."""


if __name__ == "__main__":
    app(prog_name="service")
