"""Neighbours of a vector through HTTP: the service over Chroma's server, both at one recall, both with texts."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from statistics import median

import numpy as np

from bench.dataset import Dataset, Truth, ground_truth, recall
from bench.peers.latencies import Round, over_http
from bench.peers.rounds import interleaved, median_ratio, spread
from bench.peers.sides import LIMIT, VectorServer
from bench.peers.tuning import Point, equal, equal_recall, points_of
from bench.peers.verdicts import Goal, Row

ASKED = 500  # Queries, whose answers are compared with the truth; the same for tuning and for measuring.
LATER = 100  # So many queries further on each round begins: a slow side too meets them all.
FILTERED = 200  # Queries of a round.
LOAD_SECONDS = 2.0
GOALS = {1: Goal("≥", 1.3), 8: Goal("≥", 2), 32: Goal("≥", 2)}
SHARES = (0.001, 0.01, 0.1)
FILTERED_GOAL = Goal("≥", 10)
CLIENT_SHARE = 0.7  # Of a core: a client that is busier may be what was measured.


class Measure:
    """One dataset, its truths, and the sides that are compared on it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.places = {name: place for place, name in enumerate(dataset.ids)}

    def truth(self, share: float | None = None) -> Truth:
        return ground_truth(self.dataset, LIMIT, share)

    def recall(self, found: Mapping[int, list[str]], truth: Truth) -> float:
        values = [recall(self.dataset, query, ids, truth, self.places) for query, ids in found.items()]
        return float(np.mean(values))


async def tune(sides: tuple[VectorServer, VectorServer], measure: Measure) -> tuple[Point, Point]:
    """Of both sides, which search with it afterwards."""
    truth = measure.truth()

    async def recall_at(side: VectorServer, effort: int) -> float:
        await side.use(effort)
        requests = [side.vector_request(query) for query in range(ASKED)]
        return measure.recall((await over_http(side, requests, concurrency=4)).found, truth)

    ours, theirs = [await points_of(partial(recall_at, side)) for side in sides]
    chosen = equal_recall(ours, theirs)
    for side, point in zip(sides, chosen, strict=True):
        await side.use(point.effort)
    return chosen


async def noise(side: VectorServer, *, rounds: int) -> list[Row]:
    """The service over itself: what two equal sides differ by on this machine."""
    rows = []
    for concurrency in GOALS:
        ask = loop(side, concurrency)
        await ask()
        gave = await interleaved({"A": ask, "again A": ask}, rounds=rounds)
        rates = [[each.rate for each in gave[name]] for name in gave]
        least, most = spread(*rates)
        ratio = median_ratio(*rates)
        measured = f"{ratio:.3f} (rounds {least:.2f} to {most:.2f}; {median(rates[0]):,.0f} searches/s)"
        rows.append(Row(f"A/A: the service over itself, vector search, concurrency {concurrency}", ratio, measured))
    return rows


def loop(side: VectorServer, concurrency: int) -> Callable[[], Awaitable[Round]]:
    requests, turns = [side.vector_request(query) for query in range(ASKED)], count()

    async def ask() -> Round:
        first = next(turns) * LATER % ASKED
        turned = requests[first:] + requests[:first]
        one = await over_http(side, turned, concurrency=concurrency, seconds=LOAD_SECONDS)
        return replace(one, found={(place + first) % ASKED: ids for place, ids in one.found.items()})

    return ask


async def throughput(
    ours: VectorServer, theirs: VectorServer, measure: Measure, tuned: tuple[Point, Point], *, rounds: int
) -> list[Row]:
    truth, rows = measure.truth(), []
    for concurrency, goal in GOALS.items():
        sides = {side.name: loop(side, concurrency) for side in (ours, theirs)}
        for ask in sides.values():
            await ask()
        gave = await interleaved(sides, rounds=rounds)
        recalls = recalls_of({name: merged(gave[name]) for name in gave}, measure, truth)
        rates = {name: [each.rate for each in gave[name]] for name in gave}
        cpus = {name: max(each.cpu for each in gave[name]) for name in gave}
        ratio = median_ratio(rates[ours.name], rates[theirs.name])
        least, most = spread(rates[ours.name], rates[theirs.name])
        shown = [
            f"{name} {median(rates[name]):,.0f}/s, recall {recalls[name]:.4f}, ef {point.effort}, client {cpus[name]:.0%}"
            for name, point in zip(gave, tuned, strict=True)
        ]
        rows.append(
            Row(
                f"vector search through HTTP, {ours.name}, searches/s over {theirs.name}'s, concurrency {concurrency}",
                ratio,
                f"{ratio:.2f} (rounds {least:.2f} to {most:.2f}; {'; '.join(shown)})",
                goal=goal,
                unequal=why_unequal(recalls[ours.name], recalls[theirs.name], max(cpus.values())),
                details={"rates": rates, "recall": recalls, "client_cpu": cpus},
            )
        )
    return rows


def recalls_of(found: Mapping[str, dict[int, list[str]]], measure: Measure, truth: Truth) -> dict[str, float]:
    """Of the queries that every side has answered: some are harder than others."""
    both = set.intersection(*(set(each) for each in found.values()))
    return {name: measure.recall({query: each[query] for query in both}, truth) for name, each in found.items()}


def merged(rounds: list[Round]) -> dict[int, list[str]]:
    return {query: ids for each in rounds for query, ids in each.found.items()}


def why_unequal(ours: float, theirs: float, client: float) -> str | None:
    if not equal(ours, theirs):
        return f"recall differs: {ours:.4f} and {theirs:.4f}"
    return f"the client took {client:.0%} of a core" if client > CLIENT_SHARE else None


async def filtered(ours: VectorServer, theirs: VectorServer, measure: Measure, *, rounds: int) -> list[Row]:
    """One at a time; the goal is the peer's time over the service's."""
    rows = []
    for share in SHARES:
        truth = measure.truth(share)
        sides: dict[str, Callable[[], Awaitable[Round]]] = {
            side.name: partial(over_http, side, [side.vector_request(query, share=share) for query in range(FILTERED)])
            for side in (ours, theirs)
        }
        for ask in sides.values():
            await ask()
        gave = await interleaved(sides, rounds=rounds)
        recalls = {name: measure.recall(merged(gave[name]), truth) for name in gave}
        times = {name: [each.p50 for each in gave[name]] for name in gave}
        ratio = median_ratio(times[theirs.name], times[ours.name])
        least, most = spread(times[theirs.name], times[ours.name])
        shown = [f"{name} {median(times[name]):.2f} ms, recall {recalls[name]:.4f}" for name in gave]
        lower = recalls[ours.name] < recalls[theirs.name] and not equal(recalls[ours.name], recalls[theirs.name])
        rows.append(
            Row(
                f"filtered search through HTTP, {theirs.name}'s p50 over ours, {share:.1%} of the documents left",
                ratio,
                f"{ratio:.1f} (rounds {least:.1f} to {most:.1f}; {'; '.join(shown)})",
                goal=FILTERED_GOAL,
                unequal="our recall is the lower one" if lower else None,
                details={"p50_ms": times, "recall": recalls},
            )
        )
    return rows
