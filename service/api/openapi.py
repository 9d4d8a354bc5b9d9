"""Answers as /openapi.json shows them. The routes write JSON by themselves, so these are words, checked by a test."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from service.api.problems import Problem
from service.api.schemas import FileDocument, TextDocument

COMMON = (400, 401, 422, 503)
TITLES = {
    400: "A cursor or a body that cannot be read",
    401: "No key, or not a live one",
    404: "Not found: unknown, ill-formed and foreign ids alike",
    409: "A conflict with what exists",
    412: "The document is not at this version",
    413: "Too large",
    415: "The route does not take this Content-Type",
    422: "A value that cannot be accepted; `errors` names it",
    428: "If-Match is required",
    503: "Try again after `Retry-After` seconds",
}


class Collection(BaseModel):
    name: str
    language: str
    attributes: dict[str, str]
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
    code: str
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
    size: int
    sha256: str
    version: int
    indexed_version: int | None
    status: Literal["pending", "processing", "indexed", "failed"]
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


def answers(successes: dict[int, type[BaseModel]], *problems: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its successes, its own problems and those that every route has."""
    problem = {"model": Problem, "content": {"application/problem+json": {}}}
    shown: dict[int | str, dict[str, Any]] = {
        status: {**problem, "description": TITLES[status]} for status in sorted({*COMMON, *problems})
    }
    return {status: {"model": model} for status, model in successes.items()} | shown


FILE = {"type": "string", "format": "binary"}
DOCUMENT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": TextDocument.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": FILE, "document": FileDocument.model_json_schema()},
                }
            },
            "*/*": {"schema": FILE},
        },
    }
}
