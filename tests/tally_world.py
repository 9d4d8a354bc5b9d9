"""Collections to count in: filled through the API, and seen as the recount sees them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import asyncpg

from service.domain.hits import Facet, Tally
from service.domain.queries import Words
from service.search.tally import tally
from tests.api_calls import Json
from tests.filter_world import KEYS, STORED_ONLY, STRINGS, TAGS, TEXTS, World
from tests.search_calls import Library
from tests.tally_oracle import Asked, Seen, facet, valued

WORDS = ("bear", "wolf", "otter", "hawk", "lynx")  # The same lexemes in both languages.
YEARS: tuple[Any, ...] = (2020, 2020.0, 2021, "2020", None, True, 1, [2020, 2020.0, "2020"], [2021, [2022], None], {})
PATHS = ("year", "nest.x", "nest.0", "rank", *KEYS)
FACETS: tuple[str, ...] = ("tags", "source", "language", *(f"attributes.{path}" for path in PATHS))
DECLARED = {"rank": "integer"}


@dataclass(frozen=True)
class Shelf:
    """A filled collection, and what is in it."""

    library: Library
    seen: Sequence[Seen]

    def chunks(self) -> list[UUID]:
        return [chunk for seen in self.seen for chunk in seen.chunks]

    def holding(self, window: Sequence[UUID]) -> list[Seen]:
        return [seen for seen in self.seen if not seen.chunks.keys().isdisjoint(window)]


def random_text(random: Random) -> str:
    """Of one to four chunks, most of whose words nobody looks for."""
    return " ".join(random.choice(WORDS) if random.random() < 0.01 else "moss" for _ in range(random.choice((9, 600))))


def random_document(world: World) -> Json:
    random = world.random
    texts = [json.loads(text) for text in TEXTS if text not in STORED_ONLY]
    attributes: Json = {key: random.choice(texts) for key in KEYS if random.random() < 0.3}
    nest = {key: random.choice(texts) for key in ("0", "x") if random.random() < 0.7}
    attributes |= {"nest": nest if random.random() < 0.8 else [nest, "a"]} if random.random() < 0.8 else {}
    attributes |= {"year": random.choice(YEARS)} if random.random() < 0.8 else {}
    attributes |= {"rank": random.randrange(6)} if random.random() < 0.8 else {}
    return {
        "title": random.choice((*WORDS, "bear wolf", "-")),
        "text": random_text(random),
        "source": world.maybe(STRINGS),
        "language": random.choice(("english", "simple", None)),
        "tags": world.some(TAGS),
        "attributes": attributes,
    }


async def see(admin: asyncpg.Connection, collection: UUID, documents: Sequence[Json]) -> list[Seen]:
    chunks: list[dict[UUID, list[str]]] = [{} for _ in documents]
    sql = """select d.external_id, c.id, c.text from chunks c join documents d on d.id = c.document_id
             where d.collection_id = $1"""
    for external_id, chunk_id, text in await admin.fetch(sql, collection):
        chunks[int(external_id)][UUID(str(chunk_id))] = text.split()
    nothing: Json = {"source": None, "language": None, "tags": [], "published_at": None, "attributes": {}}
    return [
        Seen({**nothing, **document, "external_id": str(n)}, document["title"].split(), chunks[n])
        for n, document in enumerate(documents)
    ]


async def tallied(
    library: Library, question: str = "", ranked: Sequence[UUID] = (), **fields: Any
) -> tuple[Mapping[str, Facet] | None, Tally | None]:
    query = library.query(question, **{"facets": FACETS, "count": True, **fields})
    return await tally(query, Words.parse(question), library.collection, ranked, tools=library.tools)


def recounted(facets: Mapping[str, Facet]) -> dict[str, list[tuple[Any, int]]]:
    return {key: [(valued(each.value), each.count) for each in found.values] for key, found in facets.items()}


def check(
    found: tuple[Mapping[str, Facet] | None, Tally | None], expected: Sequence[Seen], relation: str, scope: str
) -> None:
    facets, count = found
    assert facets is not None
    assert recounted(facets) == {key: facet(expected, key) for key in facets}
    assert {(each.relation, each.scope) for each in facets.values()} == {(relation, scope)}
    assert count == Tally(len(expected), relation, scope)  # type: ignore[arg-type]  # they are what is compared


def random_question(random: Random) -> tuple[str, Asked]:
    words = random.sample(WORDS, 2)
    phrases = random.choice(((), (), ("bear wolf",), ("otter",), ("otter", "moss hawk")))
    excluded = random.choice(((), (), ("lynx",), ("bear wolf", "hawk")))
    quoted = [f'"{phrase}"' for phrase in phrases]
    barred = [f'-"{word}"' if " " in word else f"-{word}" for word in excluded]
    spoken = [word for phrase in phrases for word in phrase.split()]
    return " ".join((*words, *quoted, *barred)), Asked([*words, *spoken], phrases, excluded)
