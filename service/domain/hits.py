"""What a search answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

WarningCode = Literal["lexical_only", "scan_limit", "unindexed_filter", "budget"]


@dataclass(frozen=True, slots=True)
class ChunkHit:
    chunk_id: str
    ordinal: int
    text: str
    score: float
    char_start: int
    char_end: int
    page: int | None


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
    chunks: tuple[ChunkHit, ...]


@dataclass(frozen=True, slots=True)
class SearchWarning:
    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class Hits:
    hits: tuple[Hit, ...]
    profile: str
    warnings: tuple[SearchWarning, ...] = ()
