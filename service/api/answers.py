"""From the domain to JSON: one function for each thing that an answer shows."""

from datetime import UTC, datetime
from http import HTTPStatus

import orjson
from starlette.responses import Response

from service.domain.documents import Chunk, Collection, CollectionStatus, Document

Json = dict[str, object]


def to_json(value: object) -> bytes:
    """UTF-8; times in UTC with a Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def json_response(value: object, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(value), status, headers, media_type="application/json")


def utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def show_collection(collection: Collection) -> Json:
    return {
        "name": collection.name,
        "language": collection.language,
        "attributes": dict(collection.attributes),
        "created_at": utc(collection.created_at),
        "updated_at": utc(collection.updated_at),
    }


def show_status(status: CollectionStatus) -> Json:
    return {"documents": dict(status.documents), "jobs": dict(status.jobs), "settled": status.settled}


def show_document(document: Document) -> Json:
    fields, error = document.fields, document.error
    return {
        "id": str(document.id),
        "external_id": document.external_id,
        "collection": document.collection,
        "title": fields.title,
        "source": fields.source,
        "tags": list(fields.tags),
        "published_at": utc(fields.published_at),
        "attributes": dict(fields.attributes),
        "language": fields.language,
        "content_type": document.content_type.partition(";")[0],
        "size": document.size,
        "sha256": document.sha256.hex(),
        "version": document.version,
        "indexed_version": document.indexed_version,
        "status": document.status,
        "error": None if error is None else {"code": error.code, "message": error.message},
        "chunk_count": document.chunk_count,
        "created_at": utc(document.created_at),
        "updated_at": utc(document.updated_at),
    }


def show_chunk(chunk: Chunk) -> Json:
    return {
        "chunk_id": str(chunk.id),
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page": chunk.page,
    }


def document_response(document: Document, status: int = HTTPStatus.OK, *, with_location: bool = False) -> Response:
    headers = {"ETag": f'"{document.version}"'}
    if with_location:
        headers["Location"] = f"/v1/documents/{document.id}"
    return json_response(show_document(document), status, headers)
