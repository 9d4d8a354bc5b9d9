"""A run against one service: its collection, its decks, and one way to put a load on it and take everything down."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.dataset import Dataset
from bench.deck import Asking, Card, write_deck
from bench.generator import Generator
from bench.measured import Measured, measure
from bench.pace import Pace
from bench.place import Place
from bench.quality import Quality
from bench.watch import spent
from bench.wire import Sent, Stream

EMBEDDED_QUERIES = "hybrid_embedder_queries"


@dataclass(frozen=True, slots=True)
class Load:
    """`hot`: the queries that were asked before, over and over; else each is one that the service does not remember.

    With a `rate` it is an open loop, else a closed one of so many clients; `count` or `seconds` ends it. `first` is the
    cold query to begin with, else the one after the last that was asked.
    """

    asking: Asking = Asking()  # noqa: RUF009 - frozen
    hot: bool = True
    concurrency: int = 1
    rate: float | None = None
    count: int | None = None
    seconds: float = 0.0
    first: int | None = None

    @property
    def label(self) -> str:
        how = f"{self.concurrency} at once" if self.rate is None else "open"
        return f"{self.asking.mode}, {'cached' if self.hot else 'cold'}, {how}"


@dataclass
class Session:
    """`asked` is the next cold query. The first are kept for rounds that ask the same in every run; at the end it goes on
    behind them.

    There are more cold queries than a service remembers (10,000), so that the first is forgotten by then.
    """

    place: Place
    generator: Generator
    dataset: Dataset
    quality: Quality
    collection: str
    pace: Pace
    folder: Path
    metrics: httpx.AsyncClient
    decks: dict[tuple[Any, ...], Path] = field(default_factory=dict)
    asked: int = field(init=False)

    def __post_init__(self) -> None:
        self.asked = self.reserved

    @property
    def reserved(self) -> int:
        return self.pace.rounds * self.pace.serial

    @property
    def hot(self) -> range:
        return range(self.pace.hot)

    @property
    def cold(self) -> range:
        return range(self.pace.hot, len(self.dataset.queries))

    def deck(self, asking: Asking, *, hot: bool) -> Path:
        key = (repr(asking), hot)
        if key not in self.decks:
            cards = asking.cards(self.dataset, self.collection, self.hot if hot else self.cold)
            self.decks[key] = self.write(cards)
        return self.decks[key]

    def write(self, cards: Sequence[Card]) -> Path:
        return write_deck(cards, self.folder / f"deck-{os.getpid()}-{len(list(self.folder.iterdir()))}.json")

    def stream(self, load: Load) -> Stream:
        deck = str(self.deck(load.asking, hot=load.hot))
        start = 0 if load.hot else self.asked if load.first is None else load.first
        if load.rate is not None:
            return Stream(deck, "open", start, rate=load.rate, seconds=load.seconds)
        return Stream(deck, "closed", start, load.concurrency, seconds=load.seconds, count=load.count)

    async def warm(self, asking: Asking) -> None:
        """The hot queries once, so that their embeddings are remembered and the statement's shape is known."""
        await self.generator.run(self.stream(Load(asking, count=self.pace.hot, concurrency=4)))

    async def run(self, load: Load, *beside: Stream) -> tuple[Measured, list[Sent]]:
        """What came of the load; `beside` runs at the same time and is in the requests, not in the figures."""
        before, remembered = self.place.watched.cpu(), await self.embedded_queries()
        done = await self.generator.run(self.stream(load), *beside)
        after, now = self.place.watched.cpu(), await self.embedded_queries()
        if not load.hot and load.first is None:
            self.asked += len(done.streams[0])
            if self.asked >= len(self.cold):
                self.asked = self.reserved
        measured = measure(done, cpu=spent(before, after), cache_hits=hit_share(remembered, now))
        return measured, [sent for stream in done.streams for sent in stream]

    async def embedded_queries(self) -> dict[str, float]:
        """By how the embedder answered them; empty where /metrics is out of reach."""
        try:
            text = (await self.metrics.get(f"{self.place.url}/metrics")).text
            return {
                sample.labels["answer"]: sample.value
                for family in text_string_to_metric_families(text)
                if family.name == EMBEDDED_QUERIES
                for sample in family.samples
                if sample.name.endswith("_total")
            }
        except (httpx.HTTPError, ValueError, KeyError):
            return {}

    def at_size(self, size: int) -> "Session":
        """The same with fewer documents in the collection."""
        return replace(self, quality=Quality(self.dataset, self.quality.lexemes, size), decks=self.decks)


def hit_share(before: dict[str, float], after: dict[str, float]) -> float | None:
    """The cached ones among those that needed an embedding; None where nobody says, or none was needed."""
    grown = {answer: after[answer] - before.get(answer, 0.0) for answer in after}
    total = sum(grown.values())
    return round(grown.get("cached", 0.0) / total, 4) if total else None
