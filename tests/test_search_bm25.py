"""Lexical scores against BM25 computed a second time, from the lexemes that Postgres finds."""

from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest
from sqlalchemy import select

from service.db.tables import collections
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api, Json
from tests.search_calls import Library, library, settle
from tests.search_oracle import bm25

ENGLISH = "the bears were running over rivers while a running bear caught salmon and three wolves watched it run"
GERMAN = "die Häuser am Fluss sind älter als das Haus der Bären und ein Bär läuft durch alte Straßen zum Haus"
FRENCH = "les maisons près des rivières sont vieilles et un ours court vers la vieille maison de la rivière"

LEXEMES = "select lexeme, cardinality(positions) as n from unnest(to_tsvector($1::text::regconfig, $2))"


@pytest.fixture(scope="module")
async def postgres(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    assert settings.database_direct_url is not None
    connection = await asyncpg.connect(settings.database_direct_url.get_secret_value())
    yield connection
    await connection.close()


def documents(text: str, *, override: str, seed: int) -> list[Json]:
    """Short, long and untitled ones; every fifth in a language of its own."""
    words, random = text.split(), Random(seed)  # noqa: S311  repeatable, not secret
    return [
        {
            "external_id": str(n),
            "title": " ".join(random.choices(words, k=4)) if n % 4 else None,
            "text": " ".join(random.choices(words, k=random.choice((3, 20, 60)))) + ".",
            **({} if n % 5 else {"language": override}),
        }
        for n in range(60)
    ]


async def lexemes(postgres: asyncpg.Connection, language: str, text: str) -> Counter[str]:
    return Counter({row["lexeme"]: row["n"] for row in await postgres.fetch(LEXEMES, language, text)})


async def expected(
    postgres: asyncpg.Connection, resources: Resources, found: Library, question: str, rows: list[Json]
) -> dict[str, float]:
    language = found.collection.language
    chunks = {
        row["external_id"]: await lexemes(
            postgres, row.get("language", language), f"{row['title'] or ''}\n{row['text']}"
        )
        for row in rows
    }
    asked = await lexemes(postgres, language, question)
    c = collections.c
    async with resources.primary.begin(found.collection.tenant_id) as connection:
        average = await connection.scalar(select(c.average_length).where(c.id == found.collection.id))
    return bm25(list(asked), chunks, average=float(average or 0))


async def scores(found: Library, question: str) -> dict[str | None, float]:
    return {hit.external_id: hit.score for hit in (await found.ask(question, mode="lexical", limit=100)).hits}


@pytest.mark.parametrize(
    ("language", "text", "override", "questions"),
    [
        ("english", ENGLISH, "german", ["run", "bears salmon", "The wolf running over a river; salmon salmon"]),
        ("german", GERMAN, "english", ["Haus", "alte Häuser", "der Bär und das Haus am Fluss"]),
        ("french", FRENCH, "simple", ["maison", "vieux ours", "une rivière vieille"]),
        ("simple", ENGLISH, "english", ["the", "bears bear running run"]),
    ],
    ids=["english", "german", "french", "simple"],
)
async def test_lexical_scores_are_bm25(  # noqa: PLR0917  pytest names them
    api: Api,
    resources: Resources,
    postgres: asyncpg.Connection,
    language: str,
    text: str,
    override: str,
    questions: list[str],
) -> None:
    rows = documents(text, override=override, seed=len(text))
    found = await library(api, resources, rows, language=language)

    for question in questions:
        wanted = await expected(postgres, resources, found, question, rows)
        assert await scores(found, question) == pytest.approx(wanted, rel=1e-4), question
        assert len(wanted) > 5


async def test_scores_follow_a_collection_that_grows(
    api: Api, resources: Resources, postgres: asyncpg.Connection
) -> None:
    first, then = (
        documents(ENGLISH[:36], override="english", seed=1)[:5],
        documents(ENGLISH, override="english", seed=2),
    )
    found = await library(api, resources, first)
    then = [row | {"external_id": f"later {row['external_id']}", "text": row["text"] * 3} for row in then]
    await api.batch(found.collection.name, then)
    await settle(api, resources, found.collection.name)

    wanted = await expected(postgres, resources, found, "bear salmon", [*first, *then])
    assert await scores(found, "bear salmon") == pytest.approx(wanted, rel=1e-4)


async def test_a_term_counts_once_in_the_question(api: Api, resources: Resources) -> None:
    found = await library(api, resources, documents(ENGLISH, override="english", seed=3))

    assert await scores(found, "bear bear bears BEAR") == await scores(found, "bear")


async def test_a_chunk_that_shares_no_word_is_no_hit(api: Api, resources: Resources) -> None:
    found = await library(api, resources, [{"text": "bear"}, {"text": "wolf"}, {"title": "Bears", "text": "otter"}])

    assert set(await scores(found, "bear")) == {"0", "2"}
