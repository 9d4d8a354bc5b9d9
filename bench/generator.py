"""The load generator from the side of a run."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import orjson

from bench.failures import BenchError
from bench.wire import Done, Job, Stream, done_of

MOST_OF_A_CORE = 0.7  # Beyond it, what is measured may be the generator.


class Generator:
    """Runs one job after the other in its process. `busiest` is the largest share of a core that it has taken."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.busiest = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, *streams: Stream, patience: float = 10.0) -> Done:
        if self._process.stdin is None or self._process.stdout is None:
            raise BenchError("The load generator has no pipes.")
        self._process.stdin.write(orjson.dumps(asdict(Job(streams, patience))) + b"\n")
        await self._process.stdin.drain()
        line = (await self._process.stdout.readline()).decode().strip()
        if not line:
            raise BenchError("The load generator has ended; what it said stands above.")
        done = taken(Path(line))
        self.busiest = max(self.busiest, done.client_share)
        return done


def taken(file: Path) -> Done:
    written = file.read_bytes()
    file.unlink()
    return done_of(orjson.loads(written))


@asynccontextmanager
async def open_generator(url: str, key: str) -> AsyncIterator[Generator]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.generate",
            folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "BENCH_URL": url, "BENCH_KEY": key},
        )
        try:
            yield Generator(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
