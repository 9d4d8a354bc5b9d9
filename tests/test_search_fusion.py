"""Fusion against the contract's formulas, computed a second time from the scores of the legs alone."""

from collections.abc import Callable
from typing import Any

import pytest

from service.domain.hits import Hits
from service.resources import Resources
from tests.api_calls import Api
from tests.search_calls import Library, collection_of, directions, fill, library, searching
from tests.search_oracle import Scores, linear, rrf

WORDS = ["bear", "wolf", "otter", "raven", "salmon", "thistle"]
QUESTION = "growling bear otter thistle"
NEAR, *VECTORS = directions(17, seed=1)


def long_text(n: int) -> str:
    """Some five chunks."""
    sentences = (
        f"The {WORDS[(n + i) % 6]} met a {WORDS[(n * i) % 6]} on day {i * n}, and both went on." for i in range(90)
    )
    return " ".join(sentences)


@pytest.fixture(scope="module")
async def zoo(api: Api, resources: Resources) -> Library:
    short = [
        {"text": " ".join(WORDS[: 1 + n % 5]) * (1 + n % 3), "vector": vector.tolist()}
        for n, vector in enumerate(VECTORS)
    ]
    return await library(api, resources, [*short, *({"text": long_text(n)} for n in range(8))])


async def scores(zoo: Library, question: str = QUESTION, **fields: Any) -> tuple[Scores, Scores]:
    """Every chunk's BM25 (where it matches) and cosine."""
    lexical = await zoo.ask(question, mode="lexical", grouped=False, limit=100)
    semantic = await zoo.ask(question, mode="semantic", grouped=False, limit=100, **fields)
    assert len(semantic.hits) == len(set(by_chunk(semantic))) < 100
    return by_chunk(lexical), by_chunk(semantic)


def by_chunk(hits: Hits) -> dict[str, float]:
    return {chunk.chunk_id: chunk.score for hit in hits.hits for chunk in hit.chunks}


@pytest.mark.parametrize("window", [200, 12, 1])
@pytest.mark.parametrize("alpha", [0.6, 0.0, 1.0, 0.25])
async def test_linear_is_the_formula_of_the_contract(zoo: Library, alpha: float, window: int) -> None:
    expected = linear(*await scores(zoo), alpha=alpha, window=window)

    found = await zoo.ask(QUESTION, grouped=False, limit=100, alpha=alpha, window=window)

    assert by_chunk(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("window", [200, 12, 1])
@pytest.mark.parametrize(
    "parts",
    [{}, {"k": 1.0}, {"k": 0.5, "lexical_weight": 2.5}, {"semantic_weight": 0.0}, {"lexical_weight": 0.0, "k": 10.0}],
    ids=str,
)
async def test_rrf_is_the_formula_of_the_contract(zoo: Library, parts: dict[str, Any], window: int) -> None:
    expected = rrf(*await scores(zoo), **parts, window=window)

    found = await zoo.ask(QUESTION, grouped=False, limit=100, method="rrf", window=window, **parts)

    assert by_chunk(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("method", "formula"), [("linear", linear), ("rrf", rrf)])
async def test_a_given_vector_takes_the_place_of_the_embedding(
    zoo: Library, method: str, formula: Callable[..., Scores]
) -> None:
    expected = formula(*await scores(zoo, vector=NEAR))

    found = await zoo.ask(QUESTION, grouped=False, limit=100, method=method, vector=NEAR)

    assert by_chunk(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic"])
@pytest.mark.parametrize("method", ["linear", "rrf"])
async def test_documents_are_their_best_chunks_in_order(zoo: Library, mode: str, method: str) -> None:
    chunks = await zoo.ask(QUESTION, mode=mode, method=method, grouped=False, limit=100)
    documents = await zoo.ask(QUESTION, mode=mode, method=method, limit=100, chunks_per_document=4)

    best: dict[str, list[tuple[str, float]]] = {}
    for hit in chunks.hits:
        best.setdefault(hit.document_id, []).append((hit.chunks[0].chunk_id, hit.score))
    assert {hit.document_id: [(c.chunk_id, c.score) for c in hit.chunks] for hit in documents.hits} == {
        document: found[:4] for document, found in best.items()
    }
    assert all(hit.score == hit.chunks[0].score for hit in (*chunks.hits, *documents.hits))
    assert [hit.document_id for hit in documents.hits] == sorted(best, key=lambda d: (-best[d][0][1], d))
    assert max(len(found) for found in best.values()) > 4


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic"])
@pytest.mark.parametrize("grouped", [True, False])
async def test_asking_for_fewer_hits_returns_a_prefix(zoo: Library, mode: str, *, grouped: bool) -> None:
    five, two = [await zoo.ask(QUESTION, mode=mode, grouped=grouped, limit=limit) for limit in (5, 2)]

    assert two.hits == five.hits[:2]
    assert len(five.hits) == 5


async def test_equal_scores_are_ordered_by_id(api: Api, resources: Resources) -> None:
    """Of the document; within a leg, whose places reciprocal ranks count, of the chunk."""
    name = (await library(api, resources, [])).collection.name
    for text, numbers in (("otter", range(6)), *(("bear", (n,)) for n in reversed(range(6)))):
        documents = [{"external_id": str(n), "text": text, "vector": NEAR.tolist()} for n in numbers]
        await fill(api, resources, name, documents)  # Written anew, the first document has the last chunk.
    twins = Library(await collection_of(api, resources, name), searching(resources))

    for fields in ({"mode": "hybrid"}, {"method": "rrf", "window": 3}, {"mode": "lexical"}, {"mode": "semantic"}):
        hits = (await twins.ask("bear", vector=NEAR, **fields)).hits
        ids = [hit.chunks[0].chunk_id if "window" in fields else hit.document_id for hit in hits]
        assert ids == sorted(ids), fields
        assert len(ids) == (3 if "window" in fields else 6)


async def test_where_all_vectors_are_equal_the_words_decide(api: Api, resources: Resources) -> None:
    texts = ["bear", "bear bear otter", "wolf", "otter wolf raven"]
    alike = await library(api, resources, [{"text": text, "vector": NEAR.tolist()} for text in texts])
    lexical, semantic = await scores(alike, "bear", vector=VECTORS[0])

    found = by_chunk(await alike.ask("bear", grouped=False, vector=VECTORS[0]))

    assert found == pytest.approx(linear(lexical, semantic))
    assert sorted(found.values())[:2] == [0, 0]
    assert max(found.values()) == pytest.approx(0.4)


async def test_where_no_word_matches_the_vectors_decide(zoo: Library) -> None:
    semantic = (await scores(zoo))[1]
    found = await zoo.ask("xylophone", vector=NEAR, grouped=False, limit=100)

    assert [hit.score for hit in found.hits[:1]] == [pytest.approx(0.6)]
    assert found.hits[-1].score == 0
    assert len(found.hits) == len(semantic)
    assert (await zoo.ask("xylophone", mode="lexical")).hits == ()


async def test_the_only_candidate_has_no_spread_of_cosines(api: Api, resources: Resources) -> None:
    one = await library(api, resources, [{"text": "bear"}])

    assert [hit.score for hit in (await one.ask("bear")).hits] == [pytest.approx(0.4)]
    assert [hit.score for hit in (await one.ask("wolf")).hits] == [0]
    assert [hit.score for hit in (await one.ask("bear", method="rrf")).hits] == [pytest.approx(2 / 61)]


async def test_an_empty_collection_has_no_hits(api: Api, resources: Resources) -> None:
    empty = await library(api, resources, [])

    for mode in ("hybrid", "lexical", "semantic"):
        hits = await empty.ask("bear", mode=mode)
        assert (hits.hits, hits.warnings) == ((), ())
