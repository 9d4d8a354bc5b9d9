"""`service run`: the whole service on one machine, from an empty folder, until Ctrl-C."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from service.cli.address import DATA_DIR
from service.cli.foreground import Service, run_service
from service.cli.prepare import prepare
from service.local.ports import LOOPBACK

EMBEDDING_MODEL = "all-MiniLM-L6-v2"


def run(
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65535, help="Of the API; 0 takes a free one.")] = 8000,
    data_dir: Annotated[Path, typer.Option(envvar="DATA_DIR", help="Everything that the stack keeps.")] = Path(
        DATA_DIR
    ),
) -> None:
    """Start Postgres, an object store, the API and a worker on this machine, and keep them running until Ctrl-C."""
    host = os.environ.get("HOST") or LOOPBACK
    embedding_model = os.environ.get("EMBEDDING_MODEL") or EMBEDDING_MODEL
    service = Service(prepare=partial(prepare, embedding_model=embedding_model))
    raise typer.Exit(run_service(data_dir, service, host=host, port=port))
