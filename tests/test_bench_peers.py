"""The comparison with peers: its protocol, its tuning and its verdicts. No peer is installed for it."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from bench.dataset import Dataset
from bench.peers import hybrid, ingest, vector_search
from bench.peers.chroma import Chroma
from bench.peers.environments import Environment, prepare
from bench.peers.failures import PeerError
from bench.peers.given import write_given
from bench.peers.http_client import Origin, closed_loop
from bench.peers.latencies import Round
from bench.peers.library import LibraryPeer, open_library
from bench.peers.ours import Service
from bench.peers.report import Report
from bench.peers.rounds import interleaved, median_ratio
from bench.peers.sides import with_texts
from bench.peers.tuning import Point, equal, equal_recall, points_of
from bench.peers.verdicts import Goal, Row, exit_code, failure

GOAL = Goal("≥", 2)
HERE = Environment("here", Path(sys.executable), {})
# A library that knows the order of the ids, fails for query 2 and prints what must not get between the answers.
STAND_IN = """
import os
import time
from bench.peers.inside.answering import serve

class Ordered:
    def __init__(self, given, address):
        self.given = given
    def load(self):
        print("loading")
        return {"kind": "ordered"}
    def search(self, query, *, limit, effort):
        print("searching")
        if query == 2:
            raise LookupError("no such query")
        if query == 3:
            os.closerange(3, 64)  # Its answers end before its last words are written.
            time.sleep(0.3)
            os._exit(print("out of", "memory", flush=True) or 3)
        return self.given.ids[query : query + limit]

serve(Ordered)
"""


def make_dataset(count: int = 8) -> Dataset:
    vectors = np.eye(count, 4 * count, dtype=np.float32)
    names = [f"d{place}" for place in range(count)]
    return Dataset(
        name="made-up",
        seed=0,
        ids=names,
        titles=[f"title {name}" for name in names],
        texts=[f"text of {name}" for name in names],
        vectors=vectors,
        uniform=np.arange(count, dtype=np.int32),
        queries=[f"query {name}" for name in names],
        query_vectors=vectors,
        source="nowhere",
    )


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[LibraryPeer]:
    write_given(make_dataset(), tmp_path / "given")
    async with open_library(
        "stand-in", HERE, given=tmp_path / "given", address="", logs=tmp_path, program=("-c", STAND_IN)
    ) as opened:
        yield opened


async def test_a_library_in_another_process_answers_what_it_found_and_how_long_each_took(peer: LibraryPeer) -> None:
    loaded = await peer.load()
    answer = await peer.search([0, 1], limit=3)

    assert loaded >= 0
    assert peer.settings == {"kind": "ordered"}
    assert answer.found == [["d0", "d1", "d2"], ["d1", "d2", "d3"]]
    assert len(answer.seconds) == 2


async def test_a_library_that_fails_says_why_and_goes_on(peer: LibraryPeer) -> None:
    await peer.load()

    with pytest.raises(PeerError, match="LookupError: no such query"):
        await peer.search([2], limit=1)
    assert (await peer.search([1], limit=1)).found == [["d1"]]


async def test_a_library_that_ends_is_a_failure_with_its_last_words(peer: LibraryPeer) -> None:
    await peer.load()

    with pytest.raises(PeerError, match=r"stand-in ended: .*out of memory"):
        await peer.search([3], limit=1)


async def test_a_library_that_was_never_filled_finds_nothing(peer: LibraryPeer) -> None:
    with pytest.raises(PeerError, match="nothing is loaded yet"):
        await peer.search([0], limit=1)


async def test_a_peer_that_cannot_be_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.txt").write_text("./no-such-folder\n", encoding="ascii")
    monkeypatch.setattr("bench.peers.environments.REQUIREMENTS", tmp_path)
    monkeypatch.setattr("bench.peers.environments.run", refusing_pip)

    with pytest.raises(PeerError, match="broken could not be installed"):
        prepare("broken", tmp_path / "environments")
    assert not (tmp_path / "environments" / "broken" / "installed").exists()


def refusing_pip(argv: list[str], name: str) -> str:
    if "install" in argv:
        raise PeerError(f"{name} could not be installed: no such folder")
    return ""


@asynccontextmanager
async def serving(status: int, body: bytes) -> AsyncIterator[Origin]:
    """In two chunks each, until its connections are closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            await reader.readexactly(int(length.split(b":")[1]))
            half = len(body) // 2
            parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
            writer.write(b"HTTP/1.1 %d Said\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
            writer.write(parts + b"0\r\n\r\n")

    async def until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)
        writer.close()
        gone.release()

    opened: list[asyncio.StreamWriter] = []
    gone = asyncio.Semaphore(0)
    server = await asyncio.start_server(until_gone, "127.0.0.1", 0)
    try:
        yield Origin(*server.sockets[0].getsockname())
    finally:
        for _ in opened:
            await gone.acquire()
        server.close()
        await server.wait_closed()


async def test_every_request_is_sent_once_on_connections_that_are_kept() -> None:
    async with serving(200, b'{"hits": []}') as origin:
        load = await closed_loop(origin, [origin.request("POST", "/", {})] * 20, concurrency=4)

    assert sorted(answer.request for answer in load.answers) == list(range(20))
    assert {answer.body for answer in load.answers} == {b'{"hits": []}'}


async def test_a_refused_search_is_a_failure_and_no_fast_answer() -> None:
    async with serving(503, b"overloaded") as origin:
        with pytest.raises(PeerError, match="503: overloaded"):
            await closed_loop(origin, [origin.request("GET", "/")], concurrency=1)


def test_both_servers_are_asked_for_the_same_documents() -> None:
    service, chroma = Service(Origin("h", 1), "key", make_dataset()), Chroma(Origin("h", 2), make_dataset(), never)
    mine, other = (json_of(side.vector_request(1, share=0.0005)) for side in (service, chroma))

    assert mine["vector"] == other["query_embeddings"][0]
    assert mine["limit"] == other["n_results"]
    assert mine["filter"]["attributes.u"] == other["where"]["u"] == {"$lt": 5}


async def never() -> None:
    raise NotImplementedError


def json_of(request: bytes) -> Any:
    return orjson.loads(request.split(b"\r\n\r\n", 1)[1])


def test_an_answer_without_a_text_is_refused() -> None:
    assert with_texts([("a", "text")]) == ["a"]
    with pytest.raises(PeerError, match="no text of b"):
        with_texts([("a", "text"), ("b", None)])


def test_whoever_finds_less_is_turned_up_until_both_find_the_same() -> None:
    ours = [Point(20, 0.9), Point(40, 0.981), Point(80, 0.99), Point(160, 0.999)]
    theirs = [Point(20, 0.985), Point(40, 0.9895), Point(80, 0.995)]

    assert equal_recall(ours, theirs, floor=0.98) == (Point(80, 0.99), Point(40, 0.9895))


def test_where_one_side_always_finds_more_the_points_are_unequal_and_that_is_said() -> None:
    one, other = equal_recall([Point(20, 1.0)], [Point(20, 0.985), Point(40, 0.99)], floor=0.98)

    assert (one, other) == (Point(20, 1.0), Point(40, 0.99))
    assert not equal(one.recall, other.recall)
    assert vector_search.why_unequal(one.recall, other.recall, 0.1) == "recall differs: 1.0000 and 0.9900"


def test_a_recall_that_nobody_would_serve_is_no_basis() -> None:
    with pytest.raises(PeerError, match=r"theirs 0\.9000"):
        equal_recall([Point(20, 1.0)], [Point(20, 0.9)], floor=0.98)


async def test_the_ladder_is_climbed_from_the_cheapest_step() -> None:
    async def recall_at(effort: int) -> float:
        return effort / 100

    assert await points_of(recall_at, (20, 40)) == [Point(20, 0.2), Point(40, 0.4)]


async def test_sides_take_turns_forwards_and_backwards() -> None:
    order: list[str] = []

    async def turn(name: str) -> int:
        order.append(name)
        return len(order)

    gave = await interleaved({"A": partial(turn, "A"), "B": partial(turn, "B")}, rounds=3)

    assert "".join(order) == "ABBAAB"
    assert gave == {"A": [1, 4, 5], "B": [2, 3, 6]}


def test_a_ratio_is_of_rounds_and_not_of_medians() -> None:
    assert median_ratio([10, 40, 20], [10, 10, 40]) == 1


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        (Row("a", 2.0, "2", Goal("≥", 2)), "ok"),
        (Row("a", 1.99, "1.99", Goal("≥", 2)), "missed"),
        (Row("a", 1.25, "1.25", Goal("≤", 1.25)), "ok"),
        (Row("a", 1.26, "1.26", Goal("≤", 1.25)), "missed"),
        (Row("a", math.nan, "nan", Goal("≤", 1.25)), "missed"),
        (Row("a", 9.0, "9", Goal("≥", 2), unequal="recall differs"), "missed"),
        (Row("a", 9.0, "9"), "no goal"),
        (failure("a", "gone"), "failed"),
    ],
)
def test_a_verdict_is_of_the_goal_at_equal_conditions(row: Row, outcome: str) -> None:
    assert row.outcome == outcome


def test_only_a_run_in_which_everything_was_measured_and_met_ends_well() -> None:
    met, silent = Row("a", 2.0, "2", Goal("≥", 2)), Row("b", 1.0, "1")

    assert exit_code([met, silent]) == 0
    assert exit_code([met, Row("a", 1.0, "1", Goal("≥", 2))]) == 1
    assert exit_code([met, failure("txtai", "gone")]) == 1
    assert exit_code([]) == 1


def test_a_busy_client_makes_a_figure_worthless() -> None:
    assert vector_search.why_unequal(0.99, 0.99, 0.5) is None
    assert vector_search.why_unequal(0.99, 0.99, 0.9) == "the client took 90% of a core"


async def test_a_side_that_fails_is_a_row_and_the_others_are_measured() -> None:
    async def ask(seconds: float) -> Round:
        return Round([seconds], 1 / seconds, 0.0, {})

    async def gone() -> Round:
        raise PeerError("it ended")

    sides: dict[str, hybrid.Ask] = {"ours": partial(ask, 0.002), "txtai": partial(ask, 0.004), "lancedb": gone}
    rows = {row.what: row for row in await hybrid.compare(sides, None, rounds=3)}

    assert rows["hybrid: lancedb"].outcome == "failed"
    assert rows["hybrid p50, txtai's through HTTP over ours through HTTP"].value == pytest.approx(2.0)
    assert rows["hybrid p50, txtai's through HTTP over ours through HTTP"].outcome == "ok"


def test_the_report_shows_what_failed_and_what_is_unequal() -> None:
    rows = [failure("txtai", "could not be installed"), Row("x", 3.0, "3", Goal("≥", 2), unequal="recall differs")]
    report = Report(8, 5, "nowhere", rows)
    written = orjson.loads(report.as_json())

    assert "| txtai | - | could not be installed | failed |" in report.as_markdown()
    assert "**Not equal: recall differs.**" in report.as_markdown()
    assert [row["outcome"] for row in written["rows"]] == ["failed", "missed"]
    assert written["versions"]["ours"]["python"]


class StandIn:
    """A server that finds what it was told to: everything from a step of the ladder on, too little below it."""

    def __init__(self, name: str, origin: Origin, finds_from: int) -> None:
        self.name, self.origin = name, origin
        self.finds_from, self.effort = finds_from, 0
        self.filled: list[str] = []

    async def use(self, effort: int) -> None:
        self.effort = effort

    def vector_request(self, query: int, *, share: float | None = None) -> bytes:
        return self.origin.request("POST", "/", {"query": query, "share": share})

    def found(self, body: bytes) -> list[str]:
        ids: list[str] = orjson.loads(body)["ids"]
        return ids if self.effort >= self.finds_from else ids[:-1]

    async def new_collection(self) -> str:
        self.filled.append(self.name)
        return self.name

    async def drop(self, collection: str) -> None:
        self.filled.remove(collection)

    def batches(self, collection: str, places: Sequence[int]) -> list[bytes]:
        return [self.origin.request("POST", f"/{collection}", list(places))]

    async def send(self, collection: str, requests: Sequence[bytes], *, documents: int) -> float:
        load = await closed_loop(self.origin, requests, concurrency=1)
        assert (collection, documents) == (self.name, len(make_dataset()))
        return load.seconds


@pytest.fixture
async def pair() -> AsyncIterator[tuple[StandIn, StandIn]]:
    async with serving(200, orjson.dumps({"ids": make_dataset().ids})) as origin:
        yield StandIn("ours", origin, 40), StandIn("chroma", origin, 100)


async def test_each_side_is_turned_to_its_own_step_and_both_are_measured_there(
    pair: tuple[StandIn, StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ASKED", 8), ("LATER", 3), ("FILTERED", 8), ("LOAD_SECONDS", 0.02), ("GOALS", {2: GOAL})):
        monkeypatch.setattr(vector_search, name, value)
    ours, theirs = pair
    measure = vector_search.Measure(make_dataset())

    tuned = await vector_search.tune((ours, theirs), measure)
    searches = await vector_search.throughput(ours, theirs, measure, tuned, rounds=1)
    filtered = await vector_search.filtered(ours, theirs, measure, rounds=1)
    floor = await vector_search.noise(ours, rounds=1)

    assert (ours.effort, theirs.effort) == (40, 100)
    assert [point.recall for point in tuned] == [1, 1]
    assert [row.outcome for row in floor] == ["no goal"]
    assert all(row.value for row in [*searches, *filtered, *floor])
    assert "recall 1.0000, ef 100" in searches[0].measured
    assert {row.goal for row in filtered} == {vector_search.FILTERED_GOAL}


async def test_ingest_is_compared_until_all_is_found_and_leaves_nothing_behind(pair: tuple[StandIn, StandIn]) -> None:
    row = await ingest.ingest(*pair, make_dataset(), rounds=2)

    assert row.goal == ingest.GOAL
    assert row.value is not None
    assert row.value > 0
    assert [side.filled for side in pair] == [[], []]


async def test_rounds_begin_further_on_and_answers_stay_with_their_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_search, "ASKED", 8)
    monkeypatch.setattr(vector_search, "LATER", 3)
    asked: list[int] = []

    async def over_http(_side: object, requests: Sequence[bytes], **_: object) -> Round:
        asked.append(json_of(requests[0])["query"])
        return Round([0.1], 1, 0, {0: [str(json_of(requests[0])["query"])]})

    monkeypatch.setattr(vector_search, "over_http", over_http)
    ask = vector_search.loop(StandIn("ours", Origin("h", 1), 0), 1)
    rounds = [await ask() for _ in range(4)]

    assert asked == [0, 3, 6, 1]
    assert vector_search.merged(rounds) == {0: ["0"], 3: ["3"], 6: ["6"], 1: ["1"]}


def test_recall_is_of_the_queries_that_both_sides_have_answered() -> None:
    measure = vector_search.Measure(make_dataset())
    right, nothing = measure.dataset.ids, list[str]()
    found = {"ours": {0: right}, "chroma": {0: right, 1: nothing}}

    assert vector_search.recalls_of(found, measure, measure.truth()) == {"ours": 1, "chroma": 1}
