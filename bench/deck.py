"""Requests made before anything is timed, in a file that the load generator, Locust and k6 read alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.dataset import Dataset, below

LIMIT = 10


@dataclass(frozen=True, slots=True)
class Card:
    """One request. `query` is the place of the question in the dataset, -1 of what is no search."""

    label: str
    method: str
    path: str
    body: str
    query: int = -1
    headers: Mapping[str, str] = field(default_factory=dict)


def write_deck(cards: Sequence[Card], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps([asdict(card) for card in cards]))
    return file


def read_deck(file: Path) -> list[Card]:
    return [Card(**card) for card in orjson.loads(file.read_bytes())]


@dataclass(frozen=True, slots=True)
class Asking:
    """A way to ask: what stands in the body beside the question."""

    mode: str = "hybrid"
    selectivity: float | None = None
    with_vector: bool = False
    window: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def body(self, dataset: Dataset, query: int) -> str:
        asked: dict[str, Any] = {"query": dataset.queries[query], "mode": self.mode, "limit": LIMIT}
        if self.with_vector:
            asked["vector"] = [round(float(value), 6) for value in dataset.query_vectors[query]]
            if self.mode == "semantic":
                del asked["query"]
        if self.selectivity is not None:
            asked["filter"] = {"attributes.u": {"$lt": below(self.selectivity)}}
        if self.window is not None:
            asked["fusion"] = {"window": self.window}
        if self.params:
            asked["params"] = dict(self.params)
        return orjson.dumps(asked).decode()

    def cards(self, dataset: Dataset, collection: str, queries: Sequence[int]) -> list[Card]:
        path = f"/v1/collections/{collection}/search"
        return [Card("search", "POST", path, self.body(dataset, query), query) for query in queries]
