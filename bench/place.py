"""The service that is measured: one of its own in a folder of its own, or another that only its address is known of."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.failures import BenchError
from bench.watch import Watched

READY_SECONDS = 180.0  # A first start makes a database and exports the embedding model.
STOP_SECONDS = 30.0
ELSEWHERE = Watched(None)


@dataclass(frozen=True, slots=True)
class Place:
    """`folder` is where the service keeps everything, None of one that somebody else has started."""

    url: str
    key: str = field(repr=False)
    watched: Watched = ELSEWHERE
    folder: Path | None = None


@asynccontextmanager
async def own_service(folder: Path) -> AsyncIterator[Place]:
    """`service run` until the block ends, with the settings of this environment."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "url").unlink(missing_ok=True)
    environment = {**os.environ, "DATA_DIR": str(folder), "PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        "run",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    words = asyncio.create_task(_words(process))
    try:
        url = await _ready(process, folder)
        yield Place(url, (folder / "api_key").read_text().strip(), Watched(process.pid), folder)
    except _EndedError:
        said = (await words).strip().splitlines()
        raise BenchError(f"The service did not start: {said[-1] if said else 'it gave no reason'}") from None
    finally:
        await _stop(process)
        words.cancel()


class _EndedError(Exception):
    pass


async def _words(process: asyncio.subprocess.Process) -> str:
    return (await process.stdout.read()).decode(errors="replace") if process.stdout else ""


async def _ready(process: asyncio.subprocess.Process, folder: Path) -> str:
    file, begun = folder / "url", time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while time.monotonic() - begun < READY_SECONDS:
            if process.returncode is not None:
                raise _EndedError
            url = file.read_text().strip() if file.exists() else ""
            try:
                if url and (await client.get(f"{url}/readyz")).status_code == httpx.codes.OK:
                    return url
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise BenchError(f"The service was not ready after {READY_SECONDS:.0f} s: see {folder / 'logs'}.")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
