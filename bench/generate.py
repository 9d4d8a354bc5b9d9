"""The load generator: a process that reads jobs from stdin, a line each, and names a file with what came of it.

aiohttp because its parser is C: 0.2 ms of processor a request where httpx takes several (docs/howto/benchmark.md).
"""

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path

import aiohttp
import orjson
import uvloop

from bench.deck import Card, read_deck
from bench.wire import OK, TIMEOUT, Job, Sent, Stream, job_of

MAIN_THREAD_TURNS = 0.0005  # How long the pacing thread at most waits for the interpreter.


class Generator:
    """One session for all jobs, so that connections are there already; as many as the open loop needs."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    async def run(self, job: Job) -> dict[str, object]:
        decks = [deck_at(stream.deck) for stream in job.streams]
        patience = aiohttp.ClientTimeout(total=job.timeout)
        gc.collect()
        gc.disable()  # A pause of the generator's would be counted as the service's.
        cpu, begun = time.process_time(), time.perf_counter()
        try:
            streams = await asyncio.gather(
                *(
                    (self._closed if stream.kind == "closed" else self._open)(stream, deck, patience, begun)
                    for stream, deck in zip(job.streams, decks, strict=True)
                )
            )
        finally:
            gc.enable()
        spent, took = time.process_time() - cpu, time.perf_counter() - begun
        return {"streams": [list(map(row, each)) for each in streams], "seconds": took, "cpu_seconds": spent}

    async def _closed(
        self, stream: Stream, deck: Sequence[Card], patience: aiohttp.ClientTimeout, begun: float
    ) -> list[Sent]:
        sent: list[Sent] = []
        number = 0

        async def client() -> None:
            nonlocal number
            while (stream.count is None or number < stream.count) and (
                stream.count is not None or time.perf_counter() - begun < stream.seconds
            ):
                place, number = (stream.start + number) % len(deck), number + 1
                sent.append(await self._send(deck, place, patience, begun, time.perf_counter()))

        await asyncio.gather(*(client() for _ in range(stream.concurrency)))
        return sent

    async def _open(
        self, stream: Stream, deck: Sequence[Card], patience: aiohttp.ClientTimeout, begun: float
    ) -> list[Sent]:
        """Nothing that comes back delays what is sent, and the clock of each request starts when it was due."""
        loop = asyncio.get_running_loop()
        count = int(stream.rate * stream.seconds)
        tasks: list[asyncio.Task[Sent]] = []
        all_sent = asyncio.Event()

        def send(number: int) -> None:
            due = begun + number / stream.rate
            place = (stream.start + number) % len(deck)
            tasks.append(loop.create_task(self._send(deck, place, patience, begun, due)))
            if number == count - 1:
                all_sent.set()

        pace = threading.Thread(
            target=keep_pace, args=(begun, stream.rate, count, send, loop.call_soon_threadsafe), daemon=True
        )
        pace.start()
        if count:
            await all_sent.wait()
        return list(await asyncio.gather(*tasks))

    async def _send(
        self, deck: Sequence[Card], place: int, patience: aiohttp.ClientTimeout, begun: float, due: float
    ) -> Sent:
        card = deck[place]
        sent = Sent(card.label, place, card.query, due - begun, time.perf_counter() - begun, 0.0, OK)
        try:
            async with self._session.request(
                card.method,
                self._url + card.path,
                data=card.body.encode() if card.body else None,
                headers={**self._headers, **card.headers},
                timeout=patience,
            ) as response:
                body = await response.read()
                sent.ended = time.perf_counter() - begun
                if response.status >= HTTPStatus.BAD_REQUEST:
                    sent.outcome = f"HTTP {response.status}"
                elif card.query >= 0:
                    sent.hits = [hit["external_id"] for hit in orjson.loads(body)["hits"]]
                    sent.stages = stages_of(response.headers.get("Server-Timing", ""))
        except TimeoutError:
            sent.outcome = TIMEOUT
        except aiohttp.ClientError as error:
            sent.outcome = type(error).__name__
        except (orjson.JSONDecodeError, KeyError, TypeError):
            sent.outcome = "not an answer"
        sent.ended = sent.ended or time.perf_counter() - begun
        return sent


def keep_pace(
    begun: float, rate: float, count: int, send: Callable[[int], None], hand_over: Callable[..., object]
) -> None:
    """In a thread: an event loop's timers have milliseconds, which is as long as a search."""
    for number in range(count):
        wait = begun + number / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        with suppress(RuntimeError):  # The loop was closed.
            hand_over(send, number)


def row(sent: Sent) -> tuple[object, ...]:
    return (
        sent.label,
        sent.card,
        sent.query,
        sent.intended,
        sent.sent,
        sent.ended,
        sent.outcome,
        sent.hits,
        dict(sent.stages),
    )


def stages_of(header: str) -> dict[str, float]:
    """Milliseconds by stage: `embedding;dur=3.1, statement;dur=1.2`."""
    stages = {}
    for part in header.split(","):
        name, _, rest = part.strip().partition(";dur=")
        with suppress(ValueError):
            stages[name] = float(rest)
    return stages


@cache
def deck_at(file: str) -> list[Card]:
    return read_deck(Path(file))


async def serve(folder: Path) -> None:
    """Until stdin ends."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    async with aiohttp.ClientSession(connector=connector) as session:
        generator = Generator(os.environ["BENCH_URL"], os.environ.get("BENCH_KEY", ""), session)
        for number in range(sys.maxsize):
            line = await asyncio.to_thread(sys.stdin.buffer.readline)
            if not line:
                return
            done = await generator.run(job_of(orjson.loads(line)))
            file = folder / f"done-{number}.json"
            file.write_bytes(orjson.dumps(done))
            sys.stdout.write(f"{file}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.setswitchinterval(MAIN_THREAD_TURNS)
    uvloop.run(serve(Path(sys.argv[1])))
