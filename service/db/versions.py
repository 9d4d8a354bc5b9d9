"""Writing versions: the inserts, updates and deletes from which `ingest/` composes one transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ARRAY,
    Insert,
    Integer,
    Text,
    Uuid,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.arrays import rows_of
from service.db.chunk_rows import spelled
from service.db.failures import pending
from service.db.jobs import INDEX_FILE, INDEX_TEXT
from service.db.locks import LockedDocument
from service.db.tables import chunk_terms, chunks, document_versions, documents, embeddings, jobs
from service.domain.documents import BlobBody, Collection, Fields, TextBody, Version
from service.domain.ids import new_id
from service.telemetry.logs import origin

v, d = document_versions.c, documents.c


def insert_new_documents() -> Any:  # noqa: ANN401  SQLAlchemy's types of a composed insert are private
    rows = rows_of("new", id=("ids", Uuid), external_id=("external_ids", Text))
    return (
        postgresql.insert(documents)
        .from_select(
            ["id", "collection_id", "external_id"],
            select(rows.c.id, bindparam("collection_id", type_=Uuid), rows.c.external_id),
        )
        .on_conflict_do_nothing(index_elements=[d.collection_id, d.external_id])
        .returning(d.id)
    )


INSERT_NEW_DOCUMENTS = insert_new_documents()


async def insert_documents(
    connection: AsyncConnection, collection: Collection, new: Sequence[tuple[UUID, str | None]]
) -> set[UUID]:
    """Returns the ids that are now there, at version 1; of the others somebody else has taken the external_id."""
    if not new:
        return set()
    ordered = sorted(new, key=lambda pair: pair[1] or "")  # Two batches that share names wait, and never deadlock.
    bound = {
        "collection_id": collection.id,
        "ids": [pair[0] for pair in ordered],
        "external_ids": [pair[1] for pair in ordered],
    }
    return set((await connection.execute(INSERT_NEW_DOCUMENTS, bound)).scalars())


def field_values(fields: Fields) -> dict[str, object]:
    return {
        "title": fields.title,
        "source": fields.source,
        "tags": list(fields.tags),
        "published_at": fields.published_at,
        "language": fields.language,
        "attributes": dict(fields.attributes),
    }


def body_values(body: TextBody | BlobBody) -> dict[str, object]:
    if isinstance(body, BlobBody):
        return {"blob_key": body.key, "filename": body.filename, "text": None, "vector": None}
    vector = None if body.vector is None else spelled(np.asarray(body.vector, np.float16))
    return {"blob_key": None, "filename": None, "text": body.text, "vector": vector}


# Rounded by numpy and written by orjson, a vector takes a seventh of the time that its type here takes.
INSERT_VERSIONS = insert(document_versions).values(vector=cast(bindparam("vector", type_=Text), HALFVEC))


async def insert_versions(
    connection: AsyncConnection, collection: Collection, new: Sequence[tuple[UUID, int, Version]]
) -> None:
    """Adds pending versions and the jobs that will index them."""
    if not new:
        return
    rows = [
        {
            "document_id": document_id,
            "number": number,
            "collection_id": collection.id,
            "content_type": version.content_type,
            "size": version.size,
            "sha256": version.sha256,
            **field_values(version.fields),
            **body_values(version.body),
        }
        for document_id, number, version in new
    ]
    await connection.execute(INSERT_VERSIONS, rows)
    await enqueue_indexing(
        connection,
        collection,
        [(document_id, number, isinstance(each.body, BlobBody)) for document_id, number, each in new],
    )


def insert_jobs() -> Insert:
    r = rows_of(
        "r",
        id=("ids", Uuid),
        kind=("kinds", Text),
        document_id=("document_ids", Uuid),
        number=("numbers", Integer),
    ).c
    payload = func.jsonb_build_object("version", r.number).op("||")(bindparam("made_by", type_=jobs.c.payload.type))
    tenant_id, collection_id = bindparam("tenant_id", type_=Uuid), bindparam("collection_id", type_=Uuid)
    names = ["id", "kind", "tenant_id", "collection_id", "document_id", "payload"]
    return insert(jobs).from_select(names, select(r.id, r.kind, tenant_id, collection_id, r.document_id, payload))


INSERT_JOBS = insert_jobs()


async def enqueue_indexing(
    connection: AsyncConnection, collection: Collection, versions: Sequence[tuple[UUID, int, bool]]
) -> None:
    """`versions`: document, number, and whether it is a file."""
    bound = {
        "tenant_id": collection.tenant_id,
        "collection_id": collection.id,
        "made_by": dict(origin()),
        "ids": [new_id() for _ in versions],
        "kinds": [INDEX_FILE if is_file else INDEX_TEXT for _, _, is_file in versions],
        "document_ids": [document_id for document_id, _, _ in versions],
        "numbers": [number for _, number, _ in versions],
    }
    await connection.execute(INSERT_JOBS, bound)


async def raise_versions(connection: AsyncConnection, document_ids: Sequence[UUID]) -> None:
    """Counts one accepted change, and drops the jobs of versions that are thereby overtaken."""
    if not document_ids:
        return
    ids = literal(list(document_ids), ARRAY(Uuid))
    await connection.execute(
        update(documents).where(d.id == func.any(ids)).values(version=d.version + 1, updated_at=func.now())
    )
    await forget_jobs(connection, document_ids)


async def forget_jobs(connection: AsyncConnection, document_ids: Sequence[UUID]) -> None:
    """Removes the jobs that nobody is working on."""
    ids = literal(list(document_ids), ARRAY(Uuid))
    await connection.execute(delete(jobs).where(jobs.c.document_id == func.any(ids), jobs.c.state != "running"))


async def copy_version(connection: AsyncConnection, document: LockedDocument, fields: Fields) -> None:
    """Adds the next version, pending: other fields, the same body, which does not leave the database."""
    body = ("content_type", "size", "sha256", "filename", "text", "blob_key", "vector")
    values = field_values(fields)
    source = select(
        v.document_id,
        v.number + 1,
        v.collection_id,
        *(v[name] for name in body),
        *(literal(value, v[name].type) for name, value in values.items()),
    ).where(v.document_id == document.id, v.number == document.version)
    names = ["document_id", "number", "collection_id", *body, *values]
    await connection.execute(insert(document_versions).from_select(names, source))


async def change_in_place(connection: AsyncConnection, document: LockedDocument, fields: Fields) -> None:
    """Makes the indexed version the next one: its chunks stay, so search serves the new fields from the commit on."""
    values = field_values(fields)
    await connection.execute(
        update(document_versions)
        .where(v.document_id == document.id, v.number == document.version)
        .values(number=v.number + 1, **values)
    )
    await connection.execute(
        update(documents)
        .where(d.collection_id == document.collection_id, d.id == document.id)
        .values(version=d.version + 1, indexed_version=d.version + 1, updated_at=func.now(), **values)
    )


async def reset_failed(connection: AsyncConnection, document: LockedDocument) -> None:
    await connection.execute(
        update(document_versions).where(v.document_id == document.id, v.number == document.version).values(pending())
    )


async def delete_rows(connection: AsyncConnection, document: LockedDocument) -> list[str]:
    """Removes all that the document has, set by set, and returns the keys of its blobs."""
    keys = select(v.blob_key).distinct().where(v.document_id == document.id, v.blob_key.is_not(None))
    blob_keys = list((await connection.execute(keys)).scalars())
    for table in (embeddings, chunk_terms, chunks, document_versions):
        await connection.execute(delete(table).where(table.c.document_id == document.id))
    await connection.execute(delete(documents).where(d.collection_id == document.collection_id, d.id == document.id))
    await forget_jobs(connection, [document.id])
    return blob_keys
