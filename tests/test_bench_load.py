"""The load generator of the benchmark, against a server that stalls, refuses and hangs when it is told to."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from bench.deck import Card, write_deck
from bench.generator import Generator, open_generator
from bench.measured import measure, measure_sent
from bench.wire import Stream

STALL = 0.6
SECONDS = 1.5


class Server:
    """Answers at once, except while it stalls, and except for the paths that say otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: dict[str, int] = {}
        self.first: float | None = None
        self.stalls = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        kind = request.path.removeprefix("/")
        self.seen[kind] = self.seen.get(kind, 0) + 1
        now = time.monotonic()
        self.first = self.first or now
        stall = self.first + SECONDS / 4, self.first + SECONDS / 4 + STALL
        if self.stalls and stall[0] <= now < stall[1]:
            await asyncio.sleep(stall[1] - now)
        if kind == "hanging":
            await asyncio.sleep(30)
        if kind == "broken":
            assert request.transport is not None
            request.transport.close()
        if kind == "refused":
            return web.Response(status=503)
        if kind == "nonsense":
            return web.Response(text="{")
        hits = [{"external_id": f"document-{place}"} for place in range(10)]
        return web.json_response({"hits": hits}, headers={"Server-Timing": "embedding;dur=1.5, statement;dur=2"})


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server, app = Server(), web.Application()
    app.router.add_post("/{kind}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture(scope="module")
async def generator(server: Server) -> AsyncIterator[Generator]:
    async with open_generator(server.url, "") as generator:
        yield generator


@pytest.fixture
def deck(tmp_path: Path) -> str:
    cards = [Card("search", "POST", "/search", "{}", number) for number in range(5)]
    return str(write_deck(cards, tmp_path / "deck.json"))


async def test_a_stall_that_a_closed_loop_hides_shows_in_an_open_one(
    server: Server, generator: Generator, deck: str
) -> None:
    server.stalls, server.first = True, None
    closed = measure(await generator.run(Stream(deck, seconds=SECONDS)))
    server.first = None
    opened = measure(await generator.run(Stream(deck, "open", rate=100, seconds=SECONDS)))
    server.stalls = False

    assert closed.latency["max"] > STALL * 900  # It was there,
    assert closed.latency["p95"] < STALL * 250  # and one request of hundreds saw it;
    assert opened.latency["p999"] > STALL * 900
    assert opened.latency["p95"] > STALL * 500  # here everybody who came meanwhile did.
    assert opened.sent == 100 * SECONDS
    assert not opened.failures


async def test_latency_counts_from_when_a_request_was_due(generator: Generator, deck: str) -> None:
    done = await generator.run(Stream(deck, "open", rate=50, seconds=0.5))
    sent = sorted(done.streams[0], key=lambda each: each.intended)

    assert [round(each.intended, 6) for each in sent] == [round(number / 50, 6) for number in range(25)]
    assert all(each.seconds == each.ended - each.intended and each.sent >= each.intended for each in sent)


async def test_every_failure_is_counted_by_its_kind_and_a_timeout_with_its_time(
    generator: Generator, tmp_path: Path
) -> None:
    kinds = ["search", "refused", "hanging", "broken", "nonsense", "search"]
    cards = [Card("search", "POST", f"/{kind}", "{}", number) for number, kind in enumerate(kinds)]
    deck = write_deck(cards, tmp_path / "kinds.json")
    done = await generator.run(Stream(str(deck), "open", rate=60, seconds=0.5), patience=1.5)
    measured = measure(done)

    assert measured.sent == 30
    assert measured.answered == 10
    assert measured.failures == {
        "HTTP 503": 5,
        "timeout": 5,
        "ServerDisconnectedError": 5,
        "not an answer": 5,
    }
    assert measured.latency["max"] >= 1_490
    assert measure_sent([each for each in done.streams[0] if each.outcome == "HTTP 503"]).latency == {}


async def test_a_closed_loop_has_as_many_clients_as_it_says_and_streams_run_side_by_side(
    server: Server, generator: Generator, deck: str, tmp_path: Path
) -> None:
    writes = write_deck([Card("add", "POST", "/write", "{}")], tmp_path / "writes.json")
    server.seen.clear()
    done = await generator.run(Stream(deck, concurrency=3, count=31), Stream(str(writes), "open", rate=50, seconds=0.2))

    assert [len(stream) for stream in done.streams] == [31, 10]
    assert server.seen == {"search": 31, "write": 10}
    assert measure(done).stages == {"embedding": 1.5, "statement": 2.0}
    assert done.streams[0][0].hits == [f"document-{place}" for place in range(10)]
    assert done.client_share > 0
