"""What the commands that ask a service share: one way to ask, and one meaning of every exit code.

0 it was found · 1 it failed, for the reason on standard error · 2 the command line was not understood ·
3 nothing was found: a search without a hit, a document that does not exist · 130 Ctrl-C
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from io import TextIOWrapper
from typing import TypeVar

import orjson
import typer
from rich.console import Console

from service.cli.address import find_address
from service.cli.client import Json, ServiceClient, open_client
from service.cli.failures import CommandError, UnclearError

T = TypeVar("T")

NOTHING_FOUND = 3
INTERRUPTED = 130
PATIENCE = 5.0  # Seconds: somebody is looking at the screen.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def ask(question: Callable[[ServiceClient], Awaitable[T]], *, patience: float = PATIENCE) -> T:
    """Ask the service that the environment names; what goes wrong is one sentence on standard error and an exit code."""

    async def run() -> T:
        async with open_client(find_address(os.environ), patience=patience) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except CommandError as error:
        complain(str(error))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if os.environ.get("SERVICE_TRACEBACK"):
            raise
        # Most likely an answer in another shape: another service, or another version of this one.
        complain(f"Unexpected: {type(error).__name__}: {error}. SERVICE_TRACEBACK=1 shows where.")
        raise typer.Exit(CommandError.exit_code) from None


def complain(sentence: str, *, word: str = "Error") -> None:
    Console(stderr=True).print(f"{word}: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)


def open_output() -> Console:
    """A console on standard output; when its reader leaves (`| head`), the command ends as every other does."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Not earlier: a connection that breaks while asking is an error.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # A terminal that has no such letter shows a question mark.
    return Console(highlight=False)


def print_json(answer: Json) -> None:
    open_output()
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def plain(text: str) -> str:
    """One line of text that cannot steer a terminal, whatever somebody uploaded."""
    return " ".join(CONTROLS.sub(" ", text).split())


async def choose_collection(client: ServiceClient, name: str | None) -> Json:
    """The collection of this name, or the only one there is; raises UnclearError or CommandError that name those there are."""
    if name is not None and (found := await client.find_collection(name)):
        return found
    there = [collection async for collection in client.list_collections()]
    if name is None and len(there) == 1:
        return there[0]
    if not there:
        raise CommandError("There is no collection yet: `make sample` makes one, `ingest … --create` another.")
    names = ", ".join(collection["name"] for collection in there)
    if name is None:
        raise UnclearError(f"Say which collection with --collection: {names}.")
    raise CommandError(f"There is no collection {name!r}; there are: {names}.")
