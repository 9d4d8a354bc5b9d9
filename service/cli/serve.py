"""`service serve` and `service worker`: the two long-running processes."""

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Annotated, Any, TypeVar

import structlog
import typer
import uvicorn
import uvloop

from service.cli.listening import bound
from service.cli.protocol import ProblemProtocol
from service.cli.sentences import direct_of, load_settings, or_exit
from service.cli.workers import STOPPING, serve_with_workers
from service.db.instances import announced
from service.ingest.extract import Extractor
from service.ingest.tools import Tools
from service.ingest.worker import Schedule, run_worker
from service.resources import open_resources
from service.settings import Settings
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics, listening
from service.telemetry.siblings import Seat
from service.telemetry.telemetry import Telemetry
from service.telemetry.traces import open_tracing

T = TypeVar("T")

log = structlog.get_logger(__name__)


def serve(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes behind the port; SERVE_WORKERS by default.")
    ] = None,
) -> None:
    """Serve the HTTP API on HOST and PORT."""
    settings = load_settings()
    if workers is not None:
        settings = settings.model_copy(update={"serve_workers": workers})
    configure_logging(settings.log_format)
    if settings.serve_workers == 1:
        or_exit(lambda: run_on_uvloop(answer(settings)))
    else:
        or_exit(lambda: asyncio.run(serve_with_workers(settings)))


class Server(uvicorn.Server):
    """Ends with status 0 when it is told to stop; uvicorn's own would raise the signal again, before things are closed."""

    def __init__(self, config: uvicorn.Config, *, ready: int | None) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or ():
            host, port, *_ = each.getsockname()
            log.info("listening", host=host, port=port)
        if self.ready is not None:
            with suppress(BrokenPipeError):  # The supervisor is ending.
                os.write(self.ready, b".")
            os.close(self.ready)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def answer(settings: Settings, seat: Seat | None = None, *, ready: int | None = None) -> None:
    """Listens once it has what it needs; what is missing is one sentence, where uvicorn's lifespan has a traceback.

    `ready` is a file descriptor that gets a byte then.
    """
    from service.app import create_app  # noqa: PLC0415  a second that the other commands need not wait

    async with AsyncExitStack() as stack:
        listener = stack.enter_context(bound(settings.host, settings.port, shared=seat is not None))
        app = create_app(settings, seat)
        await stack.enter_async_context(app.router.lifespan_context(app))
        gc.collect()
        gc.freeze()  # 270,000 objects of torch and its kin stay for ever: no request shall wait while all are walked (.1 to .5 s).
        config = uvicorn.Config(
            app,
            http=ProblemProtocol,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # Nothing here asks who the client is or how it came.
            server_header=False,
            timeout_graceful_shutdown=10,
            lifespan="off",
        )
        await Server(config, ready=ready).serve([listener])


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
    direct_url = direct_of(settings) if owner else None
    # Before any thread is made: each inherits it. Alone on a machine it costs nothing.
    os.nice(settings.worker_niceness)
    # The embedder's threads hold the interpreter; asked for it ten times as often, they let the event loop write sooner.
    sys.setswitchinterval(0.0005)
    or_exit(lambda: run_on_uvloop(work(settings, direct_url)))


async def work(settings: Settings, direct_url: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stop.set)
    tracing = open_tracing(settings.collector, service="hybrid-search-worker")
    telemetry = Telemetry(Metrics(), tracing.tracer)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        metrics = listening(telemetry.metrics, host=settings.host, port=settings.worker_metrics_port)
        metrics_port = stack.enter_context(metrics)
        unread = settings.model_copy(update={"reranker_model": None})  # A worker answers no search.
        resources = await stack.enter_async_context(open_resources(unread, telemetry=telemetry))
        await stack.enter_async_context(announced(resources.primary, "worker"))
        extractor = await stack.enter_async_context(Extractor())
        tools = Tools(
            resources.primary,
            resources.blobs,
            resources.embedder,
            resources.profile,
            extractor,
            settings.blob_grace_seconds,
            telemetry,
            settings.exact_chunks,
        )
        log.info(
            "worker started", profile=resources.profile.name, owner=direct_url is not None, metrics_port=metrics_port
        )
        schedule = Schedule(
            settings.worker_poll_seconds,
            settings.lease_seconds,
            batch=settings.worker_batch,
            text_lanes=settings.worker_lanes,
        )
        await run_worker(tools, schedule=schedule, stop=stop, direct_url=direct_url)
    sys.stdout.flush()
