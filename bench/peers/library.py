"""The parent's end of `bench.peers.inside`: a library in the process of its own venv, asked over stdin and stdout."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.peers.environments import Environment
from bench.peers.failures import PeerError

ROOT = Path(__file__).resolve().parents[2]
LONGEST_LINE = 256 * 1024 * 1024
LOAD_SECONDS, SEARCH_SECONDS, END_SECONDS = 600.0, 180.0, 10.0


@dataclass(frozen=True, slots=True)
class Timed:
    """By query, in the order in which they were asked."""

    seconds: Sequence[float]
    found: Sequence[Sequence[str]]


class LibraryPeer:
    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.pid = name, process.pid
        self.settings: dict[str, Any] = {}
        self._process, self._log = process, log

    async def load(self) -> float:
        """Seconds; what it says about its settings is kept."""
        answer = await self._ask({"do": "load"}, seconds=LOAD_SECONDS)
        self.settings = {name: value for name, value in answer.items() if name != "seconds"}
        return float(answer["seconds"])

    async def search(self, queries: Sequence[int], *, limit: int, effort: int | None = None) -> Timed:
        command = {"do": "search", "queries": list(queries), "limit": limit, "effort": effort}
        answer = await self._ask(command, seconds=SEARCH_SECONDS)
        if len(answer["seconds"]) != len(queries) or len(answer["found"]) != len(queries):
            raise PeerError(f"{self.name} answered {len(answer['seconds'])} of {len(queries)} queries")
        return Timed(answer["seconds"], answer["found"])

    async def _ask(self, command: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        """Raises PeerError when the peer fails, ends or does not answer in time."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - it was started with pipes
        assert stdout is not None  # noqa: S101
        try:
            stdin.write(orjson.dumps(command) + b"\n")
            await stdin.drain()
            line = await asyncio.wait_for(stdout.readline(), seconds)
        except TimeoutError:
            raise PeerError(f"{self.name} did not answer within {seconds:.0f} s") from None
        except OSError:
            line = b""
        if not line:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_SECONDS)  # Its last words are written as it goes.
            raise PeerError(f"{self.name} ended: {last_words(self._log)}")
        answer: dict[str, Any] = orjson.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer


def last_words(log: Path) -> str:
    words = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return " ".join(words.split())[-400:] or "it said nothing"


@asynccontextmanager
async def open_library(
    name: str,
    environment: Environment,
    *,
    given: Path,
    address: str,
    logs: Path,
    program: Sequence[str] | None = None,
) -> AsyncIterator[LibraryPeer]:
    """`address` is what `over_<name>.py`, or another `program`, needs: a folder of its own, or a database."""
    log = logs / f"{name}.log"
    chosen = program or ("-m", f"bench.peers.inside.over_{name}")
    with log.open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            *(str(environment.python), *chosen, str(given), address),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=words,
            cwd=ROOT,
            env={"PATH": os.defpath, "HOME": str(given), "HF_HUB_OFFLINE": "1"},
            limit=LONGEST_LINE,
        )
    try:
        yield LibraryPeer(name, process, log)
    finally:
        if process.stdin is not None:
            process.stdin.close()  # It reads to the end of its commands and goes.
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
