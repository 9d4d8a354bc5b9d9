"""One process of `serve --workers N`, as its supervisor starts it."""

from pathlib import Path

import typer

from service.cli.sentences import load_settings, or_exit
from service.cli.serve import answer, run_on_uvloop
from service.telemetry.logs import configure_logging
from service.telemetry.siblings import Seat


def main(number: int, folder: Path, ready: int) -> None:
    """`ready` is where the supervisor waits for a byte; its end without one says that this start has failed."""
    settings = load_settings()
    configure_logging(settings.log_format)
    or_exit(lambda: run_on_uvloop(answer(settings, Seat(number, settings.serve_workers, folder), ready=ready)))


if __name__ == "__main__":
    typer.run(main)
