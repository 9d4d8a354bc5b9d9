"""The examples of /openapi.json. Tests send every request and compare every answer, so none of them can grow old."""

import hashlib
from collections.abc import Mapping
from typing import Any

from service.api.problems import Trouble

Examples = Mapping[str, Any]

NEW_COLLECTION: Examples = {"english": {"name": "books"}, "german": {"name": "buecher", "language": "german"}}
COLLECTION = {
    "name": "books",
    "language": "english",
    "attributes": {"year": "integer"},
    "created_at": "2026-03-01T09:30:00.123456Z",
    "updated_at": "2026-03-01T09:31:12.654321Z",
}
COLLECTIONS = {"collections": [COLLECTION], "next_cursor": None}
COLLECTION_PATCH: Examples = {
    "declare": {"attributes": {"year": "integer", "author.name": "string"}},
    "withdraw": {"attributes": {"year": None}},
}
COLLECTION_STATUS = {
    "documents": {"pending": 0, "processing": 1, "indexed": 41, "failed": 0},
    "jobs": {"queued": 0, "running": 1, "dead": 0},
    "settled": False,
}

TEXT = "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about a little."
NEW_DOCUMENT: Examples = {
    "short": {"text": TEXT},
    "every field": {
        "external_id": "moby-dick/1",
        "title": "Moby-Dick",
        "text": TEXT,
        "source": "https://www.gutenberg.org/ebooks/2701",
        "tags": ["novel", "sea"],
        "published_at": "1851-10-18T00:00:00Z",
        "attributes": {"year": 1851, "author": {"name": "Herman Melville"}},
        "language": "english",
    },
}
# PUT: the path names the document.
DOCUMENT_BODY: Examples = {
    name: {field: value for field, value in body.items() if field != "external_id"}
    for name, body in NEW_DOCUMENT.items()
}
FILE_FIELDS = {"title": "Moby-Dick", "tags": ["novel"]}
RAW_TEXT = "# Moby-Dick\n\nCall me Ishmael.\n"
DOCUMENT_PATCH: Examples = {"retitle": {"title": "The Whale", "tags": None, "attributes": {"year": 1851}}}
DOCUMENT = {
    "id": "019aa0c4-7d2f-7c3e-9f64-0d3a5b0c1e22",
    "external_id": "moby-dick",
    "collection": "books",
    "title": "Moby-Dick",
    "source": "https://www.gutenberg.org/ebooks/2701",
    "tags": ["novel", "sea"],
    "published_at": "1851-10-18T00:00:00Z",
    "attributes": {"year": 1851, "author": {"name": "Herman Melville"}},
    "language": "english",
    "content_type": "text/plain",
    "size": len(TEXT),
    "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    "version": 1,
    "indexed_version": 1,
    "status": "indexed",
    "error": None,
    "chunk_count": 1,
    "created_at": "2026-03-01T09:32:00.123456Z",
    "updated_at": "2026-03-01T09:32:00.123456Z",
}
PENDING = {**DOCUMENT, "indexed_version": None, "status": "pending", "chunk_count": 0}
FAILED = {
    **PENDING,
    "content_type": "application/pdf",
    "status": "failed",
    "error": {"code": "encrypted", "message": "The file is encrypted."},
}
DOCUMENTS = {"documents": [DOCUMENT], "next_cursor": None}
CHUNK = {
    "chunk_id": "019aa0c4-8e41-7a5b-8c0d-2f3e4d5c6b7a",
    "ordinal": 0,
    "text": TEXT,
    "char_start": 0,
    "char_end": len(TEXT),
    "page": None,
}
CHUNKS = {"chunks": [CHUNK], "next_cursor": None}
BATCH = (
    '{"external_id": "moby-dick/1", "title": "Moby-Dick", "text": "Call me Ishmael."}\n'
    '{"external_id": "walden/1", "title": "Walden", "text": "I went to the woods."}\n'
)
BATCH_ANSWER = (
    '{"line": 1, "status": 202, "id": "019aa0c4-7d2f-7c3e-9f64-0d3a5b0c1e22"}\n'
    '{"line": 2, "status": 202, "id": "019aa0c4-7d30-7b11-a2b3-c4d5e6f70819"}\n'
)

SEARCH: Examples = {
    "words": {"query": "a voyage in search of a whale"},
    "phrase and exclusion": {"query": '"call me ishmael" -woods', "mode": "lexical", "limit": 5},
    "filter": {
        "query": "whale",
        "filter": {
            "attributes.year": {"$gte": 1850, "$lt": 1900},
            "tags": {"$overlap": ["novel", "essay"]},
            "$not": {"source": {"$exists": False}},
        },
    },
    "passages": {
        "query": "whale",
        "group_by": None,
        "fusion": {"method": "rrf", "k": 60, "weights": {"lexical": 1, "semantic": 2}},
        "params": {"exact": True},
    },
}
HITS = {
    "hits": [
        {
            "document_id": DOCUMENT["id"],
            **{name: DOCUMENT[name] for name in ("external_id", "title")},
            "score": 0.93,
            **{name: DOCUMENT[name] for name in ("source", "tags", "published_at", "attributes")},
            "chunks": [{**CHUNK, "score": 0.93}],
        }
    ],
    "next_cursor": None,
    "profile": "all-MiniLM-L6-v2",
    "warnings": [],
    "took_ms": 6.21,
}

RECOMMEND: Examples = {
    "like one": {"positive": ["moby-dick"]},
    "unlike another": {
        "positive": [{"external_id": "moby-dick"}],
        "negative": [{"external_id": "walden"}],
        "strategy": "best_score",
        "limit": 5,
        "filter": {"tags": {"$contains": "novel"}},
    },
}
SEARCH_BATCH: Examples = {
    "two": {"searches": [{"query": "a voyage in search of a whale"}, {"query": "whale", "mode": "lexical", "limit": 3}]}
}

# By status, then by code.
DETAILS: Mapping[int, Mapping[str, str]] = {
    400: {
        "malformed": "this is not JSON in UTF-8",
        "cursor_mismatch": "the cursor belongs to another list",
    },
    401: {"unauthorized": "this API key is unknown or revoked"},
    404: {"not_found": "no such document"},
    409: {
        "collection_exists": "a collection of this name exists",
        "document_exists": "a document with this external_id exists; PUT adds a version to it",
        "not_failed": "only a failed document can be retried",
        "in_progress": "the document is pending: no version of it is indexed yet",
    },
    412: {"precondition_failed": "the document is at version 3"},
    413: {"too_large": "the body has more than 1048576 bytes"},
    415: {"unsupported_media_type": "this route takes application/json"},
    422: {"invalid": "limit: Input should be less than or equal to 100"},
    428: {"precondition_required": "this change needs an If-Match header"},
    503: {"overloaded": "more requests are waiting than may wait", "unavailable": "the database does not answer"},
}
INVALID = (("limit", "Input should be less than or equal to 100"),)


def problem(status: int, code: str) -> dict[str, object]:
    trouble = Trouble(status, code, DETAILS[status][code], INVALID if code == "invalid" else ())
    return trouble.to_problem("019aa0c5-0a1b-7c2d-8e3f-405162738495")


SEARCHES = {"results": [{"status": 200, **HITS}, {"status": 422, "problem": problem(422, "invalid")}]}
