"""`service serve` and `service worker`: the two long-running processes."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
import uvloop
from pydantic import ValidationError

from service.domain.errors import ServiceError
from service.ingest.extract import Extractor
from service.ingest.index import Tools
from service.ingest.worker import Schedule, run_worker
from service.resources import open_resources
from service.settings import Settings
from service.telemetry import configure_logging

STOPPING = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


def load_settings() -> Settings:
    """Every missing or wrong variable in one sentence each."""
    try:
        return Settings()  # type: ignore[call-arg]  # pydantic-settings reads the environment
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"Error: {name}: {problem['msg'].lower()}", err=True)
        raise typer.Exit(1) from None


def or_exit(action: Callable[[], T]) -> T:
    """What the service raises on purpose is one sentence on standard error, never a traceback."""
    try:
        return action()
    except* ServiceError as group:
        for error in leaves(group):
            typer.echo(f"Error: {error}", err=True)
    raise typer.Exit(1)


def leaves(group: BaseExceptionGroup[ServiceError]) -> list[BaseException]:
    return [leaf for e in group.exceptions for leaf in (leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]


def serve() -> None:
    """Serve the HTTP API on HOST and PORT."""
    settings = load_settings()
    configure_logging(settings.log_format)
    or_exit(lambda: run_on_uvloop(answer(settings)))


class Server(uvicorn.Server):
    """Ends with status 0 when it is told to stop; uvicorn's own would raise the signal again, before things are closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def answer(settings: Settings) -> None:
    """Opens what the API needs before its port; what is missing is one sentence, where uvicorn's lifespan has a traceback."""
    from service.app import create_app  # noqa: PLC0415  a second that the other commands need not wait

    app = create_app(settings)
    async with app.router.lifespan_context(app):
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            lifespan="off",
        )
        await Server(config).serve()


def run_on_uvloop(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def worker(
    *,
    owner: Annotated[
        bool, typer.Option("--owner", help="Also run the owner's DDL jobs (DATABASE_DIRECT_URL).")
    ] = False,
) -> None:
    """Index what was uploaded, and keep the house."""
    settings = load_settings()
    configure_logging(settings.log_format)
    if owner and settings.database_direct_url is None:
        typer.echo("Error: DATABASE_DIRECT_URL: --owner needs the migrator's unpooled address", err=True)
        raise typer.Exit(1)
    direct_url = settings.database_direct_url.get_secret_value() if owner and settings.database_direct_url else None
    # The embedder's threads hold the interpreter; asked for it ten times as often, they let the event loop write sooner.
    sys.setswitchinterval(0.0005)
    or_exit(lambda: asyncio.run(work(settings, direct_url)))


async def work(settings: Settings, direct_url: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stop.set)
    async with open_resources(settings) as resources, Extractor() as extractor:
        tools = Tools(
            resources.primary,
            resources.blobs,
            resources.embedder,
            resources.profile,
            extractor,
            settings.blob_grace_seconds,
        )
        schedule = Schedule(settings.worker_poll_seconds, settings.lease_seconds, settings.worker_batch)
        await run_worker(tools, schedule=schedule, stop=stop, direct_url=direct_url)
    sys.stdout.flush()
