"""What tests of the commands share: the API behind a real port, and commands as processes with their own environment."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

ROOT = Path(__file__).parents[1]
SERVICE = (sys.executable, "-m", "service")


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The address of the app, whose lifespan is open already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Nothing of whoever runs the tests: no colours, no address, no home."""
    return {"PATH": os.defpath, "HOME": "/nonexistent", "COLUMNS": "120", "PYTHONPATH": str(ROOT), **variables}


async def run(*command: str, **variables: str) -> Finished:
    """Run a program to its end; a traceback is never what it says."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    except TimeoutError:
        process.kill()
        raise
    finished = Finished(process.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in finished.said, finished.said
    return finished


async def run_in_terminal(*command: str, **variables: str) -> str:
    """What a program writes to a terminal, escape sequences included."""
    import fcntl  # noqa: PLC0415 - only this needs a terminal
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    primary, secondary = os.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
    settings = environment({"TERM": "xterm-256color", **variables})
    del settings["COLUMNS"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=settings, stdin=secondary, stdout=secondary, stderr=secondary
    )
    os.close(secondary)
    written = asyncio.create_task(asyncio.to_thread(_read_all, primary))
    try:
        await asyncio.wait_for(process.wait(), 60)
        return (await asyncio.wait_for(written, 60)).decode()
    finally:
        os.close(primary)


def _read_all(terminal: int) -> bytes:
    pieces = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed.
            return pieces
        if not piece:
            return pieces
        pieces += piece
