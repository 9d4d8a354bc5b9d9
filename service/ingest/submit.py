"""One document comes in: its bytes to the store first, holding no connection, then one transaction."""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from service.blobs import Blobs, make_blob_key
from service.db.collections import find_collection
from service.db.documents import find_document
from service.db.locks import find_newest, lock_by_external_ids
from service.db.primary import Primary
from service.domain.conditions import UNCONDITIONAL, Condition
from service.domain.documents import BlobBody, Collection, Document, Fields, TextBody, Version
from service.domain.errors import OverloadedError, ServiceError, TooLargeError, UnavailableError
from service.domain.ids import new_id
from service.ingest.accept import Accepted, Offer, accept, check_fields
from service.ingest.upload import Upload

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

TEXT_LIMIT = 10 * 1024 * 1024
TEXT_TYPE = "text/plain; charset=utf-8"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """A document as a client sent it, before anything is stored."""

    external_id: str | None
    fields: Fields
    body: TextBody | Upload
    condition: Condition = UNCONDITIONAL


def text_version(fields: Fields, body: TextBody) -> Version:
    """Raises TooLargeError."""
    utf8 = body.text.encode()
    if len(utf8) > TEXT_LIMIT:
        raise TooLargeError(f"a text has at most {TEXT_LIMIT} bytes of UTF-8")
    return Version(fields, body, TEXT_TYPE, len(utf8), hashlib.sha256(utf8).digest())


def file_version(fields: Fields, upload: Upload, *, key: str) -> Version:
    return Version(fields, BlobBody(key, upload.filename), upload.content_type, upload.size, upload.sha256)


async def submit(
    submission: Submission, collection_name: str, *, tenant_id: UUID, primary: Primary, blobs: Blobs
) -> tuple[Accepted, Document]:
    """Accepts a document and returns it as it then is. 2xx may be said from here on: row, job and blob are durable."""
    if isinstance(submission.body, Upload):
        return await submit_file(
            submission, submission.body, collection_name, tenant_id=tenant_id, primary=primary, blobs=blobs
        )
    version = text_version(submission.fields, submission.body)
    offer = Offer(new_id(), submission.external_id, version, submission.condition)
    async with primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, collection_name)
        return await accept_one(connection, collection, offer)


async def accept_one(connection: "AsyncConnection", collection: Collection, offer: Offer) -> tuple[Accepted, Document]:
    fields = await check_fields(connection, collection, offer.version.fields)
    offer = replace(offer, version=replace(offer.version, fields=fields))
    accepted = (await accept(connection, collection, [offer]))[0]
    return accepted, await find_document(connection, collection.tenant_id, accepted.document_id)


async def submit_file(
    submission: Submission, upload: Upload, collection_name: str, *, tenant_id: UUID, primary: Primary, blobs: Blobs
) -> tuple[Accepted, Document]:
    offer = Offer(
        new_id(), submission.external_id, file_version(submission.fields, upload, key=""), submission.condition
    )
    async with primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, collection_name)
        if unchanged := await find_unchanged(connection, collection, offer):
            return unchanged
    key = make_blob_key(tenant_id, offer.document_id, 1, prefix=blobs.prefix)
    sha256 = upload.sha256.hex()
    await blobs.put(key, upload.path, content_type=upload.content_type, sha256=sha256, filename=upload.filename)
    offer = replace(offer, version=file_version(submission.fields, upload, key=key))
    try:
        async with primary.begin(tenant_id) as connection:
            collection = await find_collection(connection, tenant_id, collection_name)
            accepted, document = await accept_one(connection, collection, offer)
    except (UnavailableError, OverloadedError):
        raise  # Whether the transaction was committed is unknown, so the object stays for the sweeper to judge.
    except ServiceError:
        await discard(key, blobs=blobs)
        raise
    if accepted.outcome == "unchanged":
        await discard(key, blobs=blobs)
    return accepted, document


async def find_unchanged(
    connection: "AsyncConnection", collection: Collection, offer: Offer
) -> tuple[Accepted, Document] | None:
    """Refuses what will be refused, and finds what is there already, before any byte goes to the store."""
    fields = await check_fields(connection, collection, offer.version.fields)
    if offer.external_id is None:
        return None
    existing = await lock_by_external_ids(connection, collection, [offer.external_id])
    document = existing.get(offer.external_id)
    offer.condition.check(document.version if document else None)
    if document is None:
        return None
    newest = (await find_newest(connection, [document]))[document.id]
    if not newest.says(replace(offer.version, fields=fields)):
        return None
    accepted = Accepted(document.id, document.version, "unchanged")
    return accepted, await find_document(connection, collection.tenant_id, document.id)


async def discard(key: str, *, blobs: Blobs) -> None:
    """Removes an object that no row will ever name; what fails here is left to the sweeper."""
    try:
        await blobs.delete([key])
    except ServiceError:
        log.warning("orphan_blob", key=key)
