"""Files become text in child processes that may be killed: a hostile file costs one child, never the worker."""

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Self

import service
from service.domain.errors import ExtractionError, UnavailableError
from service.domain.texts import ExtractedText
from service.ingest.formats.frames import HEADER_LIMIT, PREFIX, frame, parse_reply
from service.ingest.formats.limits import Limits

_START_SECONDS = 30.0  # A child is ready in a quarter of a second; a machine under load may be slow, not deaf.
_HEAVY = 16 * 1024 * 1024  # A child that has read more than this keeps hundreds of megabytes; a fresh one costs .2 s.
_ROOT = Path(service.__file__).parent.parent


class Extractor:
    """Owns up to `children` warm child processes, started when first needed. Close it, or they live as long as you do."""

    def __init__(self, *, children: int = 2, wall_seconds: float = 30, limits: Limits | None = None) -> None:
        self._wall_seconds = wall_seconds
        self._limits = limits or Limits()
        self._slots = asyncio.Semaphore(children)
        self._idle: list[_Child] = []
        self._alive: set[_Child] = set()

    @property
    def pids(self) -> frozenset[int]:
        """The process ids of the children that live now."""
        return frozenset(child.pid for child in self._alive)

    async def extract(self, path: Path, *, content_type: str | None, filename: str | None) -> ExtractedText:
        """The text of one file; `content_type` and `filename` are what the client said of it. Raises ExtractionError,
        and UnavailableError when no child starts, which says nothing about the file.
        """
        request = _Request(path, content_type, filename)
        async with self._slots:
            reply = await self._ask(request)
            if reply is None:  # Killed from outside: by the kernel for want of memory, or with a neighbour. Once more.
                reply = await self._ask(request)
        if reply is None:
            raise ExtractionError("too_large", "The file takes more memory than the machine has.")
        return parse_reply(*reply)

    async def close(self) -> None:
        """End every child, busy or not."""
        self._idle.clear()
        for child in tuple(self._alive):
            await self._end(child)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, request: "_Request") -> tuple[bytes, bytes] | None:
        child = await self._take()
        try:
            async with asyncio.timeout(self._wall_seconds):
                reply = await child.ask(request.payload, text_limit=self._limits.text_bytes)
        except TimeoutError as error:
            raise ExtractionError("timeout", f"Reading the file took over {self._wall_seconds:g} seconds.") from error
        except (EOFError, OSError, ValueError) as error:
            _check_status(await self._end(child), error)
            return None
        else:
            if child.asked < self._limits.files_per_child and request.file_bytes < _HEAVY:
                self._idle.append(child)
            return reply
        finally:
            if child not in self._idle:  # Cancelled, late, dead or worn out.
                await self._end(child)

    async def _take(self) -> "_Child":
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            await self._end(child)
        child = await _Child.start()
        self._alive.add(child)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await child.prepare(self._limits)
        except BaseException as error:
            await self._end(child)
            if isinstance(error, (TimeoutError, EOFError, OSError)):
                raise UnavailableError("No process to read files in could be started.") from error
            raise
        return child

    async def _end(self, child: "_Child") -> int:
        status = await child.end()
        self._alive.discard(child)
        return status


class _Request:
    """One question to a child: which file, and what the client said of it."""

    def __init__(self, path: Path, content_type: str | None, filename: str | None) -> None:
        self.file_bytes = path.stat().st_size
        said = {"path": str(path.absolute()), "content_type": content_type, "filename": filename}
        self.payload = json.dumps(said).encode()


class _Child:
    """One child process and the two pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("The process has no pipes.")
        self._process = process
        self._requests = process.stdin
        self._replies = process.stdout
        self.asked = 0

    @classmethod
    async def start(cls) -> Self:
        # An empty environment: no secret of the worker is within reach of a parser. -B: the child may write no file.
        command = (sys.executable, "-B", "-s", "-m", "service.ingest.formats.child")
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=nowhere, cwd=_ROOT, env={}
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.returncode is None and not self._replies.at_eof()

    async def prepare(self, limits: Limits) -> None:
        self._requests.write(frame(json.dumps(dataclasses.asdict(limits)).encode()))
        await self._frame(HEADER_LIMIT)

    async def ask(self, request: bytes, *, text_limit: int) -> tuple[bytes, bytes]:
        """Header and text of the reply. Raises EOFError when the child dies before it has answered."""
        self.asked += 1
        self._requests.write(frame(request))
        await self._requests.drain()
        return await self._frame(HEADER_LIMIT), await self._frame(text_limit)

    async def _frame(self, limit: int) -> bytes:
        size = int.from_bytes(await self._replies.readexactly(PREFIX), "big")
        if size > limit:
            raise ValueError("The child sends more than it may.")
        return await self._replies.readexactly(size)

    async def end(self) -> int:
        """Kill the process if it lives, and wait until it is gone. Its exit status; negative: the signal."""
        with contextlib.suppress(ProcessLookupError):
            if not self._replies.at_eof():
                self._process.kill()
        self._requests.close()
        while await self._replies.read(HEADER_LIMIT):
            pass  # What was on its way; the transport closes once the pipe is empty.
        return await self._process.wait()


def _check_status(status: int, error: Exception) -> None:
    """Raise what the document shall say, unless the child was killed from outside, which need not be the file's doing."""
    if status == -signal.SIGKILL:
        return
    if status == -signal.SIGXCPU:
        raise ExtractionError("timeout", "Reading the file took too much processor time.") from error
    raise ExtractionError(
        "corrupt", "The file makes its parser crash or takes more memory than a document may."
    ) from error
