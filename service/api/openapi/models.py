"""Answers as /openapi.json shows them. The routes write JSON by themselves, so these are words, checked by tests."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from service.api.problems import Problem
from service.api.schemas import AttributeType
from service.domain.bulk import BulkLoad as BulkLoadState

Status = Literal["pending", "processing", "indexed", "failed"]


class Collection(BaseModel):
    name: str
    language: str
    attributes: dict[str, AttributeType] = Field(description="The declared attributes: name (a dotted path) to type.")
    created_at: datetime
    updated_at: datetime


class Collections(BaseModel):
    collections: list[Collection]
    next_cursor: str | None


class DocumentCounts(BaseModel):
    pending: int
    processing: int
    indexed: int
    failed: int


class JobCounts(BaseModel):
    queued: int
    running: int
    dead: int


class CollectionStatus(BaseModel):
    documents: DocumentCounts
    jobs: JobCounts
    settled: bool


class DocumentError(BaseModel):
    code: Literal["unsupported_type", "encrypted", "corrupt", "empty", "too_large", "timeout"]
    message: str


class Document(BaseModel):
    id: UUID
    external_id: str | None
    collection: str
    title: str | None
    source: str | None
    tags: list[str]
    published_at: datetime | None
    attributes: dict[str, Any]
    language: str | None
    content_type: str
    size: int = Field(description="Bytes.")
    sha256: str
    version: int = Field(description="From 1; every accepted PUT and PATCH adds one. The ETag.")
    indexed_version: int | None = Field(description="The version that search serves.")
    status: Status
    error: DocumentError | None
    chunk_count: int
    created_at: datetime
    updated_at: datetime


class Documents(BaseModel):
    documents: list[Document]
    next_cursor: str | None


class Chunk(BaseModel):
    chunk_id: UUID
    ordinal: int
    text: str
    char_start: int
    char_end: int
    page: int | None


class Chunks(BaseModel):
    chunks: list[Chunk]
    next_cursor: str | None


class BatchAnswer(BaseModel):
    """One line of the answer to a batch."""

    line: int = Field(description="From 1.")
    status: int = Field(description="What the line alone would have had.")
    id: UUID | None = None
    problem: Problem | None = None


class BulkLoad(BaseModel):
    index: BulkLoadState = Field(description="Of vectors: being decided, put off until the load ends, or there.")


class Health(BaseModel):
    status: Literal["ok", "ready"]
