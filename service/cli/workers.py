"""`serve --workers N`: N processes behind one port, started again when they die, ended together."""

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from service.cli.listening import reserved
from service.domain.errors import ServiceError
from service.local.child import bound_here
from service.local.supervisor import PAUSES, QUICK_DEATHS, QUICK_SECONDS, ending
from service.settings import Settings

STOPPING = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 20.0  # A worker gives its requests ten, and then closes what it has.

log = structlog.get_logger(__name__)


class WorkersEndedError(ServiceError):
    """They cannot be kept alive; the message says what became of the last one, unless that was said."""


@dataclass(slots=True)
class Crew:
    """The processes of one service: where they are told what, and who of them runs."""

    environment: dict[str, str]
    folder: Path
    running: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, number: int) -> bool:
        """Whether it came to serving; what kept it from that, it has said itself."""
        ready, said = os.pipe()
        try:
            bound = bound_here(signal.SIGTERM)
            worker = [sys.executable, "-m", "service.cli.serve_worker", str(number), str(self.folder), str(said)]
            # In a group of its own: the terminal's Ctrl-C reaches this process alone, which ends all of them.
            self.running[number] = await asyncio.create_subprocess_exec(
                *bound,
                *worker,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,
                pass_fds=(said,),
            )
        finally:
            os.close(said)
        return await first_byte(ready)

    async def end(self) -> None:
        """Asks all to end, then makes them."""
        for process in self.running.values():
            if process.returncode is None:
                process.terminate()
        endings = [asyncio.ensure_future(process.wait()) for process in self.running.values()]
        if endings:
            _, late = await asyncio.wait(endings, timeout=PATIENCE_SECONDS)
            for process in self.running.values():
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*late)


async def first_byte(descriptor: int) -> bool:
    """Whether one comes before the other end is closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(descriptor, note)
    try:
        await readable
        return bool(os.read(descriptor, 1))
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def keep(number: int, crew: Crew, *, up: asyncio.Event) -> None:
    """Starts the worker again whenever it dies. Raises WorkersEndedError when it cannot start, or dies at once every time."""
    quick, served = 0, False
    while True:
        begun = time.monotonic()
        if await crew.start(number):
            served = True
            up.set()
        status = await crew.running[number].wait()
        quick = quick + 1 if time.monotonic() - begun < QUICK_SECONDS else 1
        if not served:  # With a status it has said itself what is wrong.
            raise WorkersEndedError(
                "" if status > 0 else f"worker {number} did not start: it ended with {ending(status)}"
            )
        if quick >= QUICK_DEATHS:
            raise WorkersEndedError(f"worker {number} ended {quick} times in a row, last with {ending(status)}")
        pause = PAUSES[quick - 1]
        log.warning("worker_ended", worker=number, ending=ending(status), again_in_seconds=pause)
        await asyncio.sleep(pause)


async def keep_all(count: int, crew: Crew) -> None:
    """The first alone: what is wrong is then said once, and a model that has to be exported is exported once."""
    async with asyncio.TaskGroup() as keeping:
        up = asyncio.Event()
        keeping.create_task(keep(0, crew, up=up))
        await up.wait()
        for number in range(1, count):
            keeping.create_task(keep(number, crew, up=asyncio.Event()))


async def serve_with_workers(settings: Settings) -> None:
    """Until a signal ends it. Raises PortRefusedError and WorkersEndedError."""
    stop = asyncio.Event()
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with (
        reserved(settings.host, settings.port) as port,
        TemporaryDirectory(
            prefix="workers-"
        ) as folder,  # 0700: whoever may read the sockets in it may read the metrics
    ):
        crew = Crew({**os.environ, "SERVE_WORKERS": str(settings.serve_workers), "PORT": str(port)}, Path(folder))
        working, stopping = (
            asyncio.ensure_future(keep_all(settings.serve_workers, crew)),
            asyncio.ensure_future(stop.wait()),
        )
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        finally:
            stopping.cancel()
            await crew.end()
        if not working.cancelled():
            working.result()
