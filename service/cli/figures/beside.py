"""Other rankings of the chunks that a service serves, computed beside it, for the questions of a judged collection."""

from collections.abc import Callable, Mapping, Sequence

from service.cli.client import ServiceClient
from service.cli.figures.independent import IndependentBm25, reciprocal_ranks, throw_away_textbook
from service.cli.judged import Judged, neutral
from service.cli.uploads import in_parallel

TEXTBOOK = "the textbook's recipe"
WORDS, BM25 = "ts_rank_cd (OR)", "bm25s"
LEG = 100  # Chunks of each leg, as many as one answer has.
CONCURRENCY = 8

Ranked = Mapping[str, Sequence[str]]
"""Documents, best first, by query."""


async def rankings_beside(
    client: ServiceClient, name: str, *, judged: Judged, language: str, advance: Callable[[], None] = lambda: None
) -> dict[str, Ranked]:
    """By name. A document stands where the best of its chunks does."""
    questions = {query: neutral(text) for query, text in judged.queries.items()}
    passages, owners = await served_chunks(client, name)
    near = await nearest_chunks(client, name, questions)
    rankings: dict[str, dict[str, list[str]]] = {TEXTBOOK: {}, WORDS: {}, BM25: {}}

    def documents(chunks: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(owners[chunk] for chunk in chunks))

    async with throw_away_textbook(passages, language=language) as textbook:
        bm25 = IndependentBm25(await textbook.counted())
        for query, question in questions.items():
            said = await textbook.ranked(question, limit=LEG)
            rankings[WORDS][query] = documents(said)
            rankings[TEXTBOOK][query] = documents(reciprocal_ranks(said, near[query]))
            rankings[BM25][query] = documents(bm25.best(await textbook.lexemes(question), LEG))
            advance()
    return dict(rankings)


async def served_chunks(client: ServiceClient, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """What lexemes are made of, title and text of every chunk, by its id; and the external id of its document."""
    passages: dict[str, str] = {}
    owners: dict[str, str] = {}

    async def read(document: dict[str, str]) -> None:
        async for chunk in client.list_chunks(document["id"]):
            passages[chunk["chunk_id"]] = f"{document['title'] or ''}\n{chunk['text']}"
            owners[chunk["chunk_id"]] = document["external_id"]

    await in_parallel([document async for document in client.list_documents(name)], read, concurrency=CONCURRENCY)
    return passages, owners


async def nearest_chunks(client: ServiceClient, name: str, questions: Mapping[str, str]) -> dict[str, list[str]]:
    near: dict[str, list[str]] = {}

    async def ask(query: str) -> None:
        request = {"query": questions[query], "mode": "semantic", "group_by": None, "limit": LEG}
        answer = await client.search(name, request)
        near[query] = [chunk["chunk_id"] for hit in answer["hits"] for chunk in hit["chunks"]]

    await in_parallel(questions, ask, concurrency=CONCURRENCY)
    return near
