"""From an empty folder to the first search: a whole service started, filled, asked and stopped."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from service.cli.address import find_address
from service.cli.client import ServiceClient, open_client
from service.cli.failures import CommandError
from service.cli.figures.figure import Figure, report
from service.cli.figures.sending import send_documents
from service.cli.figures.texts import made_up_documents
from service.cli.settle import wait_until_settled

GOAL = 10.0  # Seconds.
START_LIMIT = 60.0
STOP_LIMIT = 20.0
DOCUMENTS = 1_000


def first_search() -> None:
    """Print the seconds from an empty folder to the first search, with 1,000 documents and EMBEDDING_MODEL=hashing."""
    report(measure())


async def measure() -> Figure:
    documents = made_up_documents(DOCUMENTS)
    with tempfile.TemporaryDirectory(prefix="first-search-") as folder:
        begun = time.perf_counter()
        async with started_service(Path(folder)) as client:
            answered = time.perf_counter() - begun
            await client.create_collection("first", language="english")
            await send_documents(client, "first", documents)
            await wait_until_settled(client, "first", last_pause=0.1)
            settled = time.perf_counter() - begun
            answer = await client.search("first", {"query": documents[0]["title"]})
            searched = time.perf_counter() - begun
    if not answer["hits"]:
        raise CommandError("The first search found nothing.")
    return Figure(
        what="empty folder to first search, packages installed, 1,000 documents, EMBEDDING_MODEL=hashing",
        goal=f"≤ {GOAL:.0f} s",
        measured=f"{searched:.1f} s (answering after {answered:.1f}, settled after {settled:.1f})",
        met=searched <= GOAL,
    )


@asynccontextmanager
async def started_service(folder: Path) -> AsyncIterator[ServiceClient]:
    """Run a service of its own on a free port, as `make run` does once packages are installed; Ctrl-C ends it."""
    variables = {"DATA_DIR": str(folder / "state"), "PORT": str(_free_port()), "EMBEDDING_MODEL": "hashing"}
    log = folder / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "run"),
            env=os.environ | variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            await _wait_for_files(folder / "state", process=process, log=log)
            address = find_address({"DATA_DIR": variables["DATA_DIR"]})
            async with open_client(address) as client:
                yield client
        finally:
            await _stop(process)


async def _wait_for_files(state: Path, *, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not ((state / "url").exists() and (state / "api_key").exists()):
        if process.returncode is not None or time.monotonic() > deadline:
            raise CommandError(f"`service run` did not come up: {_last_words(log)}")
        await asyncio.sleep(0.02)


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(lines[-3:]) or "it said nothing."


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), timeout=STOP_LIMIT)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            raise CommandError(f"`service run` was still there {STOP_LIMIT:.0f} s after Ctrl-C.") from None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
