"""Hits by example: the documents near others, each of which lies at the mean of its chunks' embeddings.

The vectors of examples are made first, then it is a semantic search like any other: same routes, filters and warnings.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from service.db.examples import Place, find_places
from service.domain.documents import Collection
from service.domain.errors import InProgressError, NotFoundError, UnavailableError
from service.domain.examples import Example, Recommendation
from service.domain.filters import Filter, shown
from service.domain.hits import Hit, Hits
from service.domain.queries import Query
from service.search.best_score import best_scores
from service.search.lane import Lane
from service.search.search import search
from service.search.tools import Searching
from service.telemetry.telemetry import SearchClock

Vectors = NDArray[np.float64]
NOBODY = UUID(int=0)
NEIGHBOURS = 100  # Of each good example, where bad ones may rule out the nearest.
NO_DIRECTION = 1e-6  # A mean of unit vectors shorter than this is rounding, and points nowhere.


async def similar(
    document_id: UUID,
    collection: Collection,
    *,
    limit: int,
    filter: Filter | None,  # noqa: A002  the contract's word
    tools: Searching,
    clock: SearchClock,
) -> Hits:
    """The documents near this one, without itself. Raises NotFoundError and InProgressError."""
    places = await places_of([Example(str(document_id), "id", "id")], collection, tools=tools, clock=clock)
    query = Query("", mode="semantic", limit=limit, filter=filter)
    return await nearest(mean(places), query, collection, without=places, tools=tools, clock=clock)


async def recommend(
    wanted: Recommendation, collection: Collection, *, tools: Searching, lane: Lane, clock: SearchClock
) -> Hits:
    """Raises NotFoundError that names an example which the collection does not have, InProgressError one without an index."""
    named = [*wanted.positive, *wanted.negative]
    places = await places_of(named, collection, tools=tools, clock=clock)
    positive, negative = places[: len(wanted.positive)], places[len(wanted.positive) :]
    query = Query(
        "",
        mode="semantic",
        limit=wanted.limit,
        filter=wanted.filter,
        chunks_per_document=wanted.chunks_per_document,
        limits=wanted.limits,
    )
    if wanted.strategy == "average_vector":
        near, far = mean(positive), mean(negative)
        target = near if far is None or near is None else 2 * near - far
        return await nearest(target, query, collection, without=places, tools=tools, clock=clock)
    wider = replace(query, limit=max(query.limit, NEIGHBOURS)) if negative else query

    async def around(vector: Vectors, tools: Searching) -> Hits:
        return await nearest(vector, wider, collection, without=places, tools=tools, clock=clock)

    found = await lane.run([partial(around, vector) for vector in vectors(positive)], reader=tools.reader)
    hits = await best_scores(
        [hit for each in found for hit in each.hits], vectors(positive), vectors(negative), collection, tools=tools
    )
    warnings = {warning.code: warning for each in found for warning in each.warnings}
    shown = tuple(replace(hit, chunks=hit.chunks[: wanted.chunks_per_document]) for hit in hits[: wanted.limit])
    return Hits(shown, profile=tools.profile.name, warnings=tuple(warnings.values()))


async def places_of(
    examples: Sequence[Example], collection: Collection, *, tools: Searching, clock: SearchClock
) -> list[Place]:
    """One place an example, in their order."""
    if collection.profile_id != tools.profile.id:
        raise UnavailableError(f"the collection's embeddings are not of {tools.profile.name}, which this service runs")
    ids = {example.text: uuid_of(example.text) for example in examples if example.by != "external_id"}
    with clock.stage("statement"):
        found = await find_places(
            collection,
            ids=[each for each in ids.values() if each is not None],
            external_ids=sorted({example.text for example in examples if example.by != "id"}),
            profile=tools.profile,
            reader=tools.reader,
        )
    by_id = {place.document_id: place for place in found}
    by_name = {place.external_id: place for place in found}

    def place_of(example: Example) -> Place:
        place = by_id.get(ids[example.text] or NOBODY) if example.by != "external_id" else None
        if place is None and example.by != "id":
            place = by_name.get(example.text)
        if place is None:
            raise NotFoundError(f"{example.field}: the collection has no document {shown(example.text)}")
        if not place.is_indexed:
            raise InProgressError(f"{example.field}: no version of the document is indexed yet")
        return place

    return [place_of(example) for example in examples]


def uuid_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def vectors(places: Sequence[Place]) -> list[Vectors]:
    """Unit vectors; a document without text has none, and says nothing."""
    found = [place.vector for place in places if place.vector is not None]
    return [vector / length for vector in found if (length := np.linalg.norm(vector)) > NO_DIRECTION]


def mean(places: Sequence[Place]) -> Vectors | None:
    found = vectors(places)
    return np.mean(found, axis=0) if found else None


async def nearest(
    target: Vectors | None,
    query: Query,
    collection: Collection,
    *,
    without: Sequence[Place],
    tools: Searching,
    clock: SearchClock,
) -> Hits:
    """As many hits as the query wants besides the examples, which are looked past. Towards nowhere there are none."""
    excluded = {str(place.document_id) for place in without}
    if target is None or np.linalg.norm(target) <= NO_DIRECTION:
        return Hits((), profile=tools.profile.name)
    wider = replace(query, vector=tuple(map(float, target)), limit=query.limit + len(excluded))
    found = await search(wider, collection, tools=tools, clock=clock)
    hits: list[Hit] = [hit for hit in found.hits if hit.document_id not in excluded]
    return replace(found, hits=tuple(hits[: query.limit]), next_cursor=None)
