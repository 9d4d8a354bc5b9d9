"""Many documents come in: a transaction for each hundred, an answer for each line."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from service.db.collections import find_collection, known_languages
from service.db.primary import Primary
from service.domain.documents import Collection
from service.domain.errors import InvalidError, ServiceError
from service.ingest.accept import Accepted, Offer, accept, conforming_fields, waves

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

WAVE = 100  # Rows of one transaction: long enough to be cheap, short enough that nobody waits for its locks.


async def accept_offers(
    offers: Sequence[Offer], collection_name: str, *, tenant_id: UUID, primary: Primary
) -> list[Accepted | ServiceError]:
    """Accepts offers in order, durably, each on its own merits; when a transaction fails, so do its lines and all later ones."""
    answers: list[Accepted | ServiceError] = []
    for wave in waves(offers, size=WAVE):
        try:
            async with primary.begin(tenant_id) as connection:
                collection = await find_collection(connection, tenant_id, collection_name)
                taken = await accept_wave(connection, collection, wave)
        except ServiceError as error:
            return answers + [error] * (len(offers) - len(answers))
        answers += taken
    return answers


async def accept_wave(
    connection: "AsyncConnection", collection: Collection, wave: Sequence[Offer]
) -> list[Accepted | ServiceError]:
    spoken = {offer.version.fields.language for offer in wave} - {None}
    languages = await known_languages(connection, (language for language in spoken if language))
    checked = [checked_offer(offer, collection, languages) for offer in wave]
    accepted = iter(await accept(connection, collection, [each for each in checked if isinstance(each, Offer)]))
    return [next(accepted) if isinstance(each, Offer) else each for each in checked]


def checked_offer(offer: Offer, collection: Collection, languages: set[str]) -> Offer | InvalidError:
    fields = offer.version.fields
    if fields.language is not None and fields.language not in languages:
        return InvalidError("no such text-search configuration", field="language")
    try:
        fields = conforming_fields(fields, collection)
    except InvalidError as error:
        return error
    return replace(offer, version=replace(offer.version, fields=fields))
