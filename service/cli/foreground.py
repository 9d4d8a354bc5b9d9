"""The embedded stack and the service on top of it, in the foreground of a terminal."""

import asyncio
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from service.cli.greeting import greeting
from service.domain.errors import ServiceError
from service.local.child import ChildSpec
from service.local.errors import StackError, from_os_error
from service.local.ports import LOOPBACK, is_free
from service.local.stack import Stack, held_folder, running_stack
from service.local.supervisor import started, supervise

SAME_SIGNAL_SECONDS = 1.0  # make passes on what the terminal has already sent; that is no second Ctrl-C.


@dataclass(frozen=True, kw_only=True)
class Service:
    """What runs on top of the embedded stack."""

    prepare: Callable[[Stack], Awaitable[dict[str, str]]]
    command: Sequence[str] = (sys.executable, "-m", "service")


def run_service(data_dir: Path, service: Service, *, host: str, port: int) -> int:
    """Runs until a signal ends it; the exit status. What goes wrong is one sentence."""
    try:
        asyncio.run(until_signal(lambda hurry: serve(data_dir, service, host=host, port=port, hurry=hurry)))
    except ServiceError as error:
        sentence = str(error)
    except OSError as error:
        sentence = str(from_os_error(error, data_dir.absolute()))
    except Exception as error:  # noqa: BLE001 - whoever started it gets a sentence, the log gets the story
        sentence = f"The service could not start: {type(error).__name__}: {error} (log: {keep_story(data_dir)})."
    else:
        return 0
    say(sentence, error=True)
    return 1


async def serve(data_dir: Path, service: Service, *, host: str, port: int, hurry: asyncio.Event) -> None:
    """The story of one run; leaving it by any way stops API, worker, Postgres and object store, in this order."""
    with held_folder(data_dir) as folder:
        folder.url_file.unlink(missing_ok=True)
        folder.environment_file.unlink(missing_ok=True)
        port = port or folder.port("api")
        check_port(host, port)
        say(f"Starting in {folder.path} …")
        async with running_stack(folder, hurry=hurry) as stack:
            own = {**stack.environment(), **await service.prepare(stack)}
            environment = child_environment(stack, own, host=host, port=port)
            url = url_of(host, port)
            specs = child_specs(service.command, environment, url=url)
            try:
                async with started(specs, folder=folder, hurry=hurry) as children:
                    await supervise([*stack.children, *children], say=say, announce=lambda: announce(stack, url, own))
            finally:
                folder.url_file.unlink(missing_ok=True)
                folder.environment_file.unlink(missing_ok=True)


def announce(stack: Stack, url: str, environment: Mapping[str, str]) -> None:
    folder = stack.folder
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items())]
    folder.write(folder.environment_file, "".join(lines))
    folder.write(folder.api_key_file, f"{stack.api_key}\n")
    folder.write(folder.url_file, f"{url}\n")
    say(greeting(url, stack.api_key, folder.logs))


def child_specs(command: Sequence[str], environment: dict[str, str], *, url: str) -> list[ChildSpec]:
    """The worker first, so that it is stopped last: what the API has accepted still finds it."""
    return [
        ChildSpec(name="worker", argv=[*command, "worker", "--owner"], environment=environment),
        ChildSpec(name="api", argv=[*command, "serve"], environment=environment, ready_url=f"{url}/readyz"),
    ]


def child_environment(stack: Stack, own: Mapping[str, str], *, host: str, port: int) -> dict[str, str]:
    """This process's environment, in which the stack's own addresses win."""
    here = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1", "localhost"]))
    return {
        **os.environ,
        "NO_PROXY": here,
        "no_proxy": here,
        "PYTHONUNBUFFERED": "1",
        "HOST": host,
        "PORT": str(port),
        "DATA_DIR": str(stack.folder.path),
        **own,
    }


def check_port(host: str, port: int) -> None:
    try:
        free = is_free(port, host)
    except PermissionError:
        raise StackError(
            f"Only root may open port {port}: choose one above 1023, for example PORT=8000 make run."
        ) from None
    except OSError as error:
        raise StackError(f"HOST={host} is no address of this machine: {error.strerror}.") from None
    if not free:
        raise StackError(
            f"Port {port} is taken by another program: choose another, for example PORT={port + 1} make run."
        )


def url_of(host: str, port: int) -> str:
    shown = LOOPBACK if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


async def until_signal(start: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs until it fails or Ctrl-C, SIGTERM or SIGHUP arrives; a second one hurries what is stopping."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    begun = time.monotonic()

    def on_signal() -> None:
        nonlocal begun
        if not stop.is_set():
            begun = time.monotonic()
            stop.set()
            say("\nStopping; Ctrl-C again to hurry.")
        elif time.monotonic() - begun > SAME_SIGNAL_SECONDS:
            hurry.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Left alone when `nohup` has asked so.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
    work = asyncio.ensure_future(start(hurry))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    if stop.is_set():
        say("Stopped.")


def say(sentence: str, *, error: bool = False) -> None:
    with suppress(OSError):  # The terminal may be gone while there is still something to stop.
        typer.echo(sentence, err=error)


def keep_story(data_dir: Path) -> Path:
    log = data_dir.absolute() / "logs" / "run.log"
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        traceback.print_exc(file=file)
    return log
