"""Facets and the count: how many documents a search is about, and which values they have.

A search by words alone is about every document that has one of them and passes the filter, one by meaning about every
document that passes; a hybrid one, or one with a threshold, is about what its window holds.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import UUID

import orjson

from service.db import filters
from service.db.read_pool import OUT_OF_TIME
from service.db.tally import COUNT, TallyRow, TallyShape, tally_of
from service.domain.documents import Collection
from service.domain.errors import InvalidError, NotFoundError, OverloadedError
from service.domain.filters import Field, read_field, shown
from service.domain.hits import Facet, FacetValue, Tally
from service.domain.queries import Query, Words
from service.search.running import ALL, CollectionChangedError
from service.search.tools import Searching

COUNTING_MS = 1_000  # For counting all matches, where the client gives no `timeout_ms`.
COLUMNS = ("tags", "source", "language", "attributes")

Relation = Literal["eq", "gte"]
Scope = Literal["matches", "window"]


async def tally(
    query: Query, words: Words, collection: Collection, window: Sequence[UUID], *, tools: Searching
) -> tuple[Mapping[str, Facet] | None, Tally | None]:
    """`query.facets` and `query.count`, both of documents; a document counts once for each distinct value of a list, and a
    facet shows its 100 most frequent values. `window` are the chunks that the search ranked.

    When the time for counting ends, the documents of the window are what is known. Raises InvalidError, NotFoundError,
    CollectionChangedError, OverloadedError or UnavailableError.
    """
    asked = asked_for(query)
    held = {**asked, "window": list(map(str, window))}
    if query.mode == "hybrid" or query.score_threshold is not None:
        rows = await counted(TallyShape("window"), held, collection, tools=tools)
        return answer(rows, query, relation="eq", scope="window")
    skeleton = None if query.filter is None else filters.skeleton(query.filter)
    shape = TallyShape(query.mode, bool(words.phrases), bool(words.excluded), skeleton)
    matching = {**asked, **matches_of(query, words)}
    milliseconds = query.limits.timeout_ms or COUNTING_MS
    try:
        rows = await counted(shape, matching, collection, milliseconds=milliseconds, tools=tools)
    except OverloadedError as error:
        if str(error) != OUT_OF_TIME:
            raise
        rows = await counted(TallyShape("window"), held, collection, tools=tools)
        return answer(rows, query, relation="gte", scope="matches")
    return answer(rows, query, relation="eq", scope="matches")


async def counted(
    shape: TallyShape,
    values: Mapping[str, object],
    collection: Collection,
    *,
    tools: Searching,
    milliseconds: int | None = None,
) -> list[TallyRow]:
    """All facets, and the count as one more, in one statement; without a limit, as long as the role may take."""
    settings = {"app.tenant_id": str(collection.tenant_id)}
    if milliseconds is not None:
        settings["statement_timeout"] = str(milliseconds)
    bound = {"collection": collection.id, **values}
    rows = [TallyRow.read(row) for row in await tools.reader.fetch(tally_of(shape), bound, settings=settings)]
    if not rows:
        raise NotFoundError("no such collection")
    if shape.filter is not None and rows[0].declared_at != collection.updated_at:
        raise CollectionChangedError("the collection has just been changed")
    return rows


def asked_for(query: Query) -> dict[str, object]:
    """Raises InvalidError."""
    fields = facet_fields(query.facets)
    columns, paths = [field.column for field in fields], [path(field.keys) for field in fields]
    if query.count:
        columns, paths = [*columns, COUNT], [*paths, path()]
    return {"facet_columns": columns, "facet_paths": paths}


def matches_of(query: Query, words: Words) -> dict[str, object]:
    """Of all chunks: no budget, and no bound on those in which a phrase is looked for."""
    return {
        "question": words.text,
        "phrases": list(words.phrases),
        "excluded": list(words.excluded),
        "budget": ALL,
        "tiny_chunks": 0,
        "checked_chunks": ALL,
        **({} if query.filter is None else filters.parameters(query.filter)),
    }


def facet_fields(facets: Sequence[str]) -> tuple[Field, ...]:
    """Raises InvalidError for what is no facet."""
    return tuple(map(facet_field, facets))


def facet_field(facet: str) -> Field:
    try:
        field = read_field(facet, declared={}, at="facets")
    except InvalidError:
        field = None
    if field is None or field.column not in COLUMNS:
        known = "tags, source, language and attributes.<name>"
        raise InvalidError(f"{shown(facet)!r} is no facet; there are {known}", field="facets")
    return field


def path(keys: Sequence[str] = ()) -> str:
    """As SQL/JSON path language has it, names quoted; strict, so that no name is looked for inside a list."""
    return "strict $" + "".join(f".{json.dumps(key, ensure_ascii=False)}" for key in keys)


def answer(
    rows: Sequence[TallyRow], query: Query, *, relation: Relation, scope: Scope
) -> tuple[Mapping[str, Facet] | None, Tally | None]:
    values: list[list[FacetValue]] = [[] for _ in range(len(query.facets) + query.count)]
    for row in rows:
        if row.facet is not None:
            values[row.facet - 1].append(FacetValue(orjson.loads(row.value or "null"), row.documents or 0))
    documents = values.pop() if query.count else []
    counts = map(tuple, values)
    facets = {facet: Facet(each, relation, scope) for facet, each in zip(query.facets, counts, strict=True)}
    value = documents[0].count if documents else 0
    return facets if query.facets else None, Tally(value, relation, scope) if query.count else None
