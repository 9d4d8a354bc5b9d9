"""Words and meaning together: the service through HTTP beside its own SQL, txtai through HTTP, and two libraries in process.

No side embeds: the service has met each question before, the others get its vector.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from statistics import median

from bench.peers.exact import Exact
from bench.peers.failures import PeerError
from bench.peers.latencies import Round, in_process, over_http
from bench.peers.library import Timed
from bench.peers.rounds import interleaved, median_ratio, spread
from bench.peers.sides import LIMIT, HybridServer
from bench.peers.verdicts import Goal, Row, failure

ASKED = 200  # Questions of a round, half whole titles, half three words.
OURS, TUNED, RAW = "ours", "ours with legs of 100", "raw asyncpg"
GOALS = {"txtai": Goal("≥", 1.5), "lancedb": Goal("≥", 2), "langchain": Goal("≥", 2)}
PLACES = {"txtai": "through HTTP", "lancedb": "in process", "langchain": "in process, same Postgres"}
OVER_RAW, OVER_RAW_P99 = Goal("≤", 1.25), Goal("≤", 1.5)

Ask = Callable[[], Awaitable[Round]]
Search = Callable[..., Awaitable[Timed]]


def http_side(side: HybridServer, request: Callable[[int], bytes] | None = None) -> Ask:
    make = request or side.hybrid_request
    return partial(over_http, side, [make(query) for query in range(ASKED)])


def library_side(search: Search) -> Ask:
    async def ask() -> Round:
        return in_process(await search(range(ASKED), limit=LIMIT))

    return ask


async def compare(sides: Mapping[str, Ask], exact: Exact | None, *, rounds: int) -> list[Row]:
    """Of whichever sides are there; `ours` always is. A first round warms each, and shows which of them fails."""
    rows, able = [], {}
    for name, ask in sides.items():
        try:
            await ask()
            able[name] = ask
        except PeerError as error:
            rows.append(failure(f"hybrid: {name}", error))
    if OURS not in able:
        return rows
    gave = await interleaved(able, rounds=rounds)
    quality = {name: quality_of(each[-1], exact) for name, each in gave.items()}
    rows += over_raw(gave) if RAW in gave else []
    mine = [name for name in (TUNED, OURS) if name in gave]
    return rows + [
        row_of(name, own, gave, quality, goal) for name, goal in GOALS.items() if name in gave for own in mine
    ]


def row_of(name: str, own: str, gave: Mapping[str, Sequence[Round]], quality: Mapping[str, str], goal: Goal) -> Row:
    times = {side: [each.p50 for each in gave[side]] for side in (own, name)}
    ratio = median_ratio(times[name], times[own])
    least, most = spread(times[name], times[own])
    shown = "; ".join(f"{side} {median(times[side]):.2f} ms, {quality[side]}" for side in times)
    return Row(
        f"hybrid p50, {name}'s {PLACES[name]} over {own} through HTTP",
        ratio,
        f"{ratio:.2f} (rounds {least:.2f} to {most:.2f}; {shown})",
        goal=goal,
        details={"p50_ms": times, "p99_ms": {side: [each.percentile(99) for each in gave[side]] for side in times}},
    )


def over_raw(gave: Mapping[str, Sequence[Round]]) -> list[Row]:
    rows = []
    for percent, goal in ((50, OVER_RAW), (99, OVER_RAW_P99)):
        times = {side: [each.percentile(percent) for each in gave[side]] for side in (OURS, RAW)}
        ratio = median_ratio(times[OURS], times[RAW])
        least, most = spread(times[OURS], times[RAW])
        shown = "; ".join(f"{side} {median(times[side]):.2f} ms" for side in times)
        rows.append(
            Row(
                f"hybrid p{percent}, embedding cached, over the same prepared SQL through raw asyncpg, concurrency 1",
                ratio,
                f"{ratio:.2f} (rounds {least:.2f} to {most:.2f}; {shown})",
                goal=goal,
                details={f"p{percent}_ms": times},
            )
        )
    return rows


def quality_of(one: Round, exact: Exact | None) -> str:
    """Speed without quality must be visible: how much of an exact hybrid's top ten it found, by either formula."""
    if exact is None:
        return "quality unknown"
    linear, rrf = exact.overlaps(one.found)
    return f"{linear:.2f} of exact linear's top ten, {rrf:.2f} of exact RRF's"
