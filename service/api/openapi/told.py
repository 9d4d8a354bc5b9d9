"""The successes that routes answer with, as /openapi.json tells of them."""

from dataclasses import replace

from service.api.hits import SearchResponse
from service.api.openapi import examples, models
from service.api.openapi.operations import FILE, Answer
from service.api.search_batch_schemas import SearchBatchResponse

COLLECTION = Answer("The collection", models.Collection, (), {"books": examples.COLLECTION})
NEW_COLLECTION = Answer(
    "Created", models.Collection, ("Location", "X-Commit-Token"), {"books": {**examples.COLLECTION, "attributes": {}}}
)
COLLECTIONS = Answer("A page of collections", models.Collections, (), {"the last page": examples.COLLECTIONS})
BULK_LOAD = Answer("How the index of vectors stands", models.BulkLoad, (), {"put off": {"index": "deferred"}})
STATUS = Answer("How far it is", models.CollectionStatus, (), {"one to go": examples.COLLECTION_STATUS})

CHANGED_BULK_LOAD = replace(BULK_LOAD, headers=("X-Commit-Token",))
CHANGED_COLLECTION = replace(COLLECTION, headers=("X-Commit-Token",))
DOCUMENT = Answer("The document", models.Document, ("ETag",), {"indexed": examples.DOCUMENT, "failed": examples.FAILED})
CHANGED = replace(DOCUMENT, headers=("ETag", "X-Commit-Token"))
ACCEPTED = Answer(
    "Accepted: durable, and soon indexed",
    models.Document,
    ("ETag", "Location", "X-Commit-Token"),
    {"pending": examples.PENDING},
)
CREATED = Answer(
    "Created and finished within `wait`",
    models.Document,
    ("ETag", "Location", "X-Commit-Token"),
    {"indexed": examples.DOCUMENT},
)
REPLACED = Answer(
    "Nothing changed, or replaced and finished within `wait`",
    models.Document,
    ("ETag", "Location", "X-Commit-Token"),
    {"indexed": {**examples.DOCUMENT, "version": 2, "indexed_version": 2}},
)
DOCUMENTS = Answer("A page of documents", models.Documents, ("X-Read-From",), {"the last page": examples.DOCUMENTS})
CHUNKS = Answer("A page of chunks", models.Chunks, (), {"the last page": examples.CHUNKS})
CONTENT = Answer(
    "The text of a JSON document, or a file with `stream=true`", FILE, ("Bytes-ETag", "Repr-Digest"), {}, "*/*"
)
LINK = Answer("A link to the file, good for five minutes", headers=("Location",))
GONE = Answer("Deleted", headers=("X-Commit-Token",))
BATCH = Answer(
    "A `BatchAnswer` for each line, in order",
    {"type": "string"},
    ("X-Commit-Token",),
    examples={"two accepted": examples.BATCH_ANSWER},
    media_type="application/x-ndjson",
)

HITS = Answer("The hits, best first", SearchResponse, ("X-Read-From",), {"one hit": examples.HITS})
SEARCHES = Answer(
    "An answer for each search, in order", SearchBatchResponse, ("X-Read-From",), {"two": examples.SEARCHES}
)
ALIVE = Answer("The process answers", models.Health, (), {"ok": {"status": "ok"}})
READY = Answer("The parts answer", models.Health, (), {"ready": {"status": "ready"}})
