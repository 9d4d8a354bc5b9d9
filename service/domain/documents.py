"""Collections and documents, as the rest of the house speaks of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

type_names = ("integer", "number", "string", "boolean", "timestamp", "string[]")  # what an attribute may be declared as
Status = Literal["pending", "processing", "indexed", "failed"]
JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Collection:
    id: UUID
    tenant_id: UUID
    name: str
    language: str
    attributes: Mapping[str, str]
    profile_id: UUID
    chunk_count: int  # of the last statistics
    created_at: datetime
    updated_at: datetime
    # Only the catalog looks at these two.
    unbuilt: frozenset[str] = frozenset()  # declared attributes whose index is not there yet
    graph_size: int = 0  # vectors of all collections in its graph, by the planner's statistics; 0 without a graph


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    documents: Mapping[Status, int]
    jobs: Mapping[Literal["queued", "running", "dead"], int]
    settled: bool


@dataclass(frozen=True, slots=True)
class Fields:
    """What a client says about a document beside its body; every accepted version has its own."""

    title: str | None = None
    source: str | None = None
    tags: tuple[str, ...] = ()
    published_at: datetime | None = None
    language: str | None = None
    attributes: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextBody:
    """A JSON document's text, kept as a row; `vector`, of unit length, makes it one chunk with that embedding."""

    text: str
    vector: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class BlobBody:
    """A file that is already an object: `key` names it."""

    key: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """One accepted PUT, POST or PATCH, complete: what the worker needs to index it. `size` in bytes."""

    fields: Fields
    body: TextBody | BlobBody
    content_type: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class DocumentFailure:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """The newest version's fields and status; `indexed_version` and `chunk_count` are of the version that search serves."""

    id: UUID
    collection: str
    external_id: str | None
    fields: Fields
    content_type: str
    size: int
    sha256: bytes
    version: int
    indexed_version: int | None
    status: Status
    error: DocumentFailure | None
    chunk_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    id: UUID
    ordinal: int
    text: str
    char_start: int
    char_end: int
    page: int | None
