"""Servers that are started for a comparison and ended with it, whatever happens in between."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.peers.failures import PeerError
from bench.peers.http_client import Origin, ask
from service.local.child import Child, ChildSpec
from service.local.folder import StateFolder

START_SECONDS = 120.0
POLL_SECONDS = 0.1
SHOWN = 400
# What a server may know of the shell: the rest would make two runs differ.
INHERITED = ("HOME", "LANG", "TMPDIR", "EMBEDDING_MODEL", "EMBEDDING_THREADS", "EMBEDDING_RUNTIME")


@asynccontextmanager
async def running(
    name: str,
    argv: Sequence[str],
    *,
    origin: Origin,
    ready: str,
    folder: StateFolder,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> AsyncIterator[Child]:
    """Yields once GET `ready` is answered with success; raises PeerError with the server's last words otherwise."""
    inherited = {variable: os.environ[variable] for variable in INHERITED if variable in os.environ}
    spec = ChildSpec(
        name=name,
        argv=argv,
        environment={"PATH": os.defpath, **inherited, **(environment or {})},
        directory=directory,
        patience=20.0,
        orphan_signal=signal.SIGTERM,
    )
    child = Child(spec, folder=folder)
    child.start()
    try:
        await _until_ready(child, origin, ready)
        yield child
    finally:
        await child.stop()


async def _until_ready(child: Child, origin: Origin, ready: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not child.running:
            raise PeerError(f"{child.spec.name} ended at its start: {' '.join(child.words().split())[-SHOWN:]}")
        try:
            await ask(origin, origin.request("GET", ready))
        except PeerError:
            await asyncio.sleep(POLL_SECONDS)
        else:
            return
    raise PeerError(f"{child.spec.name} did not answer within {START_SECONDS:.0f} s (log: {child.log})")
