"""What a search answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, overload

import orjson

WarningCode = Literal["lexical_only", "scan_limit", "unindexed_filter", "budget"]


@dataclass(frozen=True, slots=True)
class Share:
    """What a leg gave to a chunk's score. `rank` and `score` are null where the leg does not know the chunk."""

    rank: int | None
    score: float | None
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The contributions sum to the chunk's score."""

    lexical: Share
    semantic: Share
    boost: float | None = None  # what recency added
    rerank: float | None = None  # the reranker's score, which then is the chunk's


@dataclass(frozen=True, slots=True)
class ChunkHit:
    chunk_id: str
    ordinal: int
    text: str
    score: float
    char_start: int
    char_end: int
    page: int | None
    highlights: tuple[str, ...] | None = None
    explain: Explanation | None = None


class WrittenChunks(Sequence[ChunkHit]):
    """Chunks as the statement wrote them, an array of JSON, read when somebody looks at one: most answers only pass them on."""

    def __init__(self, json: str) -> None:
        self.json = json

    @cached_property
    def read(self) -> tuple[ChunkHit, ...]:
        return tuple(ChunkHit(**chunk) for chunk in orjson.loads(self.json))

    @overload
    def __getitem__(self, place: int) -> ChunkHit: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[ChunkHit, ...]: ...
    def __getitem__(self, place: int | slice) -> ChunkHit | tuple[ChunkHit, ...]:
        return self.read[place]

    def __iter__(self) -> Iterator[ChunkHit]:
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WrittenChunks | tuple) and self.read == tuple(other)

    def __hash__(self) -> int:
        return hash(self.read)


@dataclass(frozen=True, slots=True)
class Hit:
    """A document with its best chunks first; its score is its best chunk's."""

    document_id: str
    external_id: str | None
    title: str | None
    score: float
    source: str | None
    tags: tuple[str, ...]
    published_at: datetime | None
    attributes: Mapping[str, object]
    chunks: Sequence[ChunkHit]


@dataclass(frozen=True, slots=True)
class SearchWarning:
    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many documents: all that match, or those of the window; `gte` where the time for counting ran out."""

    value: int
    relation: Literal["eq", "gte"]
    scope: Literal["matches", "window"]


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str | int | float | bool
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The most frequent values of a field, and in how many documents each occurs."""

    values: tuple[FacetValue, ...]
    relation: Literal["eq", "gte"]
    scope: Literal["matches", "window"]


@dataclass(frozen=True, slots=True)
class Hits:
    hits: tuple[Hit, ...]
    profile: str
    warnings: tuple[SearchWarning, ...] = ()
    next_cursor: str | None = None
    facets: Mapping[str, Facet] | None = None
    count: Tally | None = None
