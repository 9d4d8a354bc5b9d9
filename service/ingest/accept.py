"""Accepting versions: what a client offers becomes rows and jobs in one transaction, or nothing at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from service.db.collections import known_languages
from service.db.locks import LockedDocument, NewestVersion, find_newest, lock_by_external_ids
from service.db.versions import insert_documents, insert_versions, raise_versions
from service.domain.attributes import check_size, conforming
from service.domain.conditions import UNCONDITIONAL, Condition
from service.domain.documents import Collection, Fields, Version
from service.domain.errors import InvalidError, OverloadedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

ROUNDS = 5  # A name that was there and then was not, five times in a row: somebody else's loop.


@dataclass(frozen=True, slots=True)
class Offer:
    """A version for the document that has this external_id, or for a new one, which will be `document_id`."""

    document_id: UUID
    external_id: str | None
    version: Version
    condition: Condition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Accepted:
    document_id: UUID
    number: int
    outcome: Literal["created", "changed", "unchanged"]


async def accept(connection: "AsyncConnection", collection: Collection, offers: Sequence[Offer]) -> list[Accepted]:
    """Takes offers in the caller's transaction, in a handful of round trips however many; no external_id occurs twice.

    Raises what the condition of an offer raises.
    """
    existing, created = await find_or_create(connection, collection, offers)
    newest = await find_newest(connection, existing.values())
    accepted, new = [], []
    for offer in offers:
        document = None if offer.document_id in created else existing[offer.external_id or ""]
        answer = judge(offer, document, newest)
        accepted.append(answer)
        if answer.outcome != "unchanged":
            new.append((answer.document_id, answer.number, offer.version))
    await raise_versions(connection, [each.document_id for each in accepted if each.outcome == "changed"])
    await insert_versions(connection, collection, new)
    return accepted


def judge(offer: Offer, document: LockedDocument | None, newest: dict[UUID, NewestVersion]) -> Accepted:
    if document is None:
        return Accepted(offer.document_id, 1, "created")
    if newest[document.id].says(offer.version):
        return Accepted(document.id, document.version, "unchanged")
    return Accepted(document.id, document.version + 1, "changed")


async def find_or_create(
    connection: "AsyncConnection", collection: Collection, offers: Sequence[Offer]
) -> tuple[dict[str, LockedDocument], set[UUID]]:
    """Locks the documents that exist and makes the others; conditions are checked before anything is made."""
    existing: dict[str, LockedDocument] = {}
    created: set[UUID] = set()
    for _ in range(ROUNDS):
        open_offers = [o for o in offers if o.document_id not in created and o.external_id not in existing]
        if not open_offers:
            return existing, created
        names = [offer.external_id for offer in open_offers if offer.external_id is not None]
        found = await lock_by_external_ids(connection, collection, names) if names else {}
        existing |= found
        missing = []
        for offer in open_offers:
            document = found.get(offer.external_id or "")
            offer.condition.check(document.version if document else None)
            if document is None:
                missing.append((offer.document_id, offer.external_id))
        created |= await insert_documents(connection, collection, missing)
    raise OverloadedError("the document is being created and deleted over and over; try again")


async def check_fields(
    connection: "AsyncConnection", collection: Collection, fields: Fields, *, attributes: bool = True
) -> Fields:
    """The fields as the collection takes them. Raises InvalidError."""
    if fields.language is not None and not await known_languages(connection, [fields.language]):
        raise InvalidError("no such text-search configuration", field="language")
    return conforming_fields(fields, collection) if attributes else fields


def conforming_fields(fields: Fields, collection: Collection) -> Fields:
    check_size(fields.attributes)
    attributes = conforming(fields.attributes, collection.attributes)
    if attributes is fields.attributes:
        return fields
    return Fields(fields.title, fields.source, fields.tags, fields.published_at, fields.language, attributes)


def waves(offers: Sequence[Offer], *, size: int) -> Iterator[list[Offer]]:
    """Cuts offers into transactions in which no external_id occurs twice, so that the later of two is a new version."""
    wave: list[Offer] = []
    names: set[str] = set()
    for offer in offers:
        if len(wave) == size or offer.external_id in names:
            yield wave
            wave, names = [], set()
        wave.append(offer)
        if offer.external_id is not None:
            names.add(offer.external_id)
    if wave:
        yield wave
