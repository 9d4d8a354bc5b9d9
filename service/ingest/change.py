"""Changing and deleting what is there: PATCH, DELETE, retry, and waiting for a version to be finished."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from service.db.collections import find_collection_by_id
from service.db.documents import find_document, is_finished
from service.db.indexing import StatementRefusedError, refusing
from service.db.jobs import DELETE_BLOBS, REFRESH_STATISTICS, enqueue, statistics_key
from service.db.locks import LockedDocument, NewestVersion, find_newest, lock_document
from service.db.primary import Primary
from service.db.versions import (
    change_in_place,
    copy_version,
    delete_rows,
    enqueue_indexing,
    forget_jobs,
    raise_versions,
    reset_failed,
)
from service.domain.attributes import merge_patch
from service.domain.conditions import Condition
from service.domain.documents import Document, Fields
from service.domain.errors import InvalidError, NotFailedError, PreconditionRequiredError
from service.ingest.accept import check_fields, conforming_fields

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

FIRST_PAUSE, LONGEST_PAUSE = 0.025, 0.1  # Seconds between two looks at a version: a small document takes about 0.1.


def require(condition: Condition) -> None:
    if condition.if_match is None:
        raise PreconditionRequiredError('If-Match is required: the ETag of the version that you saw, or "*"')


async def patch_document(
    document_id: UUID, patch: Mapping[str, object], condition: Condition, *, tenant_id: UUID, primary: Primary
) -> Document:
    """Makes a version with the same body and merged fields. `patch` has only what the client sent; None empties a field.

    What touches no chunk is served from the commit on; a new title or language is indexed first.
    """
    async with primary.begin(tenant_id) as connection:
        document = await lock_document(connection, tenant_id, document_id)
        require(condition)
        condition.check(document.version)
        collection = await find_collection_by_id(connection, tenant_id, document.collection_id)
        newest = (await find_newest(connection, [document]))[document.id]
        fields = patched(newest, patch)
        if fields.language != newest.fields.language:
            fields = await check_fields(connection, collection, fields, attributes=False)
        if "attributes" in patch:
            fields = conforming_fields(fields, collection)
        same_chunks = (fields.title, fields.language) == (newest.fields.title, newest.fields.language)
        if same_chunks and newest.status == "indexed" and document.indexed_version == document.version:
            await serve_at_once(connection, document, fields)
        else:
            await copy_version(connection, document, fields)
            await raise_versions(connection, [document.id])
            await enqueue_indexing(connection, collection, [(document.id, document.version + 1, newest.is_file)])
        return await find_document(connection, tenant_id, document.id)


async def serve_at_once(connection: "AsyncConnection", document: LockedDocument, fields: Fields) -> None:
    try:
        async with refusing():
            await change_in_place(connection, document, fields)
    except StatementRefusedError as error:
        raise InvalidError(
            "a value is longer than the index of a declared attribute holds", field="attributes"
        ) from error


def patched(newest: NewestVersion, patch: Mapping[str, object]) -> Fields:
    changes: dict[str, Any] = dict(patch)
    if "tags" in changes:
        changes["tags"] = tuple(cast("list[str] | None", changes["tags"]) or ())
    if "attributes" in changes:
        merged = merge_patch(newest.fields.attributes, changes["attributes"] or {})
        changes["attributes"] = {} if changes["attributes"] is None else merged
    fields = replace(newest.fields, **changes)
    if not newest.is_file and newest.size == 0 and not fields.title:
        raise InvalidError("title and text must not both be empty", field="title")
    return fields


async def delete_document(
    document_id: UUID, condition: Condition, *, tenant_id: UUID, primary: Primary, blob_grace_seconds: float
) -> None:
    """Removes a document from everywhere at once; its objects go after the grace, so that a restored database finds them."""
    async with primary.begin(tenant_id) as connection:
        document = await lock_document(connection, tenant_id, document_id)
        require(condition)
        condition.check(document.version)
        keys = await delete_rows(connection, document)
        collection_id = document.collection_id
        if keys:
            await enqueue(
                connection,
                DELETE_BLOBS,
                tenant_id=tenant_id,
                collection_id=collection_id,
                payload={"keys": keys},
                delay_seconds=blob_grace_seconds,
            )
        if document.indexed_version is not None:
            await enqueue(
                connection,
                REFRESH_STATISTICS,
                tenant_id=tenant_id,
                collection_id=collection_id,
                dedupe_key=statistics_key(collection_id),
                delay_seconds=1,
            )


async def retry_document(document_id: UUID, *, tenant_id: UUID, primary: Primary) -> Document:
    """Sets a failed version to pending again. Raises NotFailedError."""
    async with primary.begin(tenant_id) as connection:
        document = await lock_document(connection, tenant_id, document_id)
        collection = await find_collection_by_id(connection, tenant_id, document.collection_id)
        newest = (await find_newest(connection, [document]))[document.id]
        if newest.status != "failed":
            raise NotFailedError(f"version {document.version} of the document is {newest.status}")
        await reset_failed(connection, document)
        await forget_jobs(connection, [document.id])
        await enqueue_indexing(connection, collection, [(document.id, document.version, newest.is_file)])
        return await find_document(connection, tenant_id, document.id)


async def wait_until_finished(
    document: Document,
    seconds: float,
    *,
    tenant_id: UUID,
    primary: Primary,
    is_abandoned: Callable[[], Awaitable[bool]],
) -> Document:
    """The document once this version is indexed, failed or overtaken, or as it is when the time is up.

    No connection is held between two looks.
    """
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + seconds, FIRST_PAUSE
    while (left := end - loop.time()) > 0 and not await is_abandoned():
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)
        async with primary.begin(tenant_id) as connection:
            if await is_finished(connection, tenant_id, document.id, document.version):
                break
    async with primary.begin(tenant_id) as connection:
        return await find_document(connection, tenant_id, document.id)
