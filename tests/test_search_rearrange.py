"""What happens to the best documents after fusion: each step by hand, then all of them on found documents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from service.db.vectors import VECTORS, read_vectors
from service.domain.errors import InvalidError, OverloadedError, UnavailableError
from service.domain.hits import ChunkHit, Explanation, Hit, Share
from service.domain.ids import new_id
from service.domain.queries import Query, Rearrangement, Recency, Words
from service.rerankers.base import Reranker
from service.rerankers.overlap import OverlapReranker
from service.resources import Resources, address_of, open_search_door
from service.search.rearrange import boosted, most_different, rearranged, reranked
from tests.api_calls import Api
from tests.search_calls import Library, analyze, directions, halves, library
from tests.search_plans import Sent, searcher

NOW = datetime.now(UTC)
NEAR, *VECTORS_OF = directions(41, seed=3)
TEXTS = ["growling bear", "bear", "wolf and otter", "the growling of an otter", "thistle"]


def make_hit(number: int, *chunks: tuple[float, str], days: float | None = None, title: str | None = None) -> Hit:
    """A document with these chunks, `(score, text)`, published so many days before `NOW`."""
    shown = tuple(
        ChunkHit(f"{number}{at}", at, text, score, 0, len(text), None, explain=explanation(score))
        for at, (score, text) in enumerate(chunks)
    )
    published_at = None if days is None else NOW - timedelta(days=days)
    return Hit(str(number), f"x{number}", title, chunks[0][0], None, (), published_at, {}, shown)


def explanation(score: float) -> Explanation:
    return Explanation(Share(1, 7.5, 0.25 * score), Share(2, 0.3, 0.75 * score))


def scores_of(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(hit.document_id, hit.score) for hit in hits]


def test_recency_adds_half_as_much_with_every_half_life() -> None:
    hits = (
        make_hit(1, (0.55, "undated")),
        make_hit(2, (0.5, "one half-life"), (0.1, "its second chunk"), days=30),
        make_hit(3, (0.45, "tomorrow counts as now"), days=-1),
        make_hit(4, (0.4, "two"), days=60),
        make_hit(5, (0.4, "half of one"), days=15),
    )

    found = boosted(hits, Recency(half_life_days=30, weight=0.2), now=NOW, grouped=True)

    assert [document for document, _ in scores_of(found)] == ["3", "2", "1", "5", "4"]
    assert [score for _, score in scores_of(found)] == pytest.approx([0.65, 0.6, 0.55, 0.5414213562, 0.45])
    assert [chunk.score for chunk in found[1].chunks] == pytest.approx([0.6, 0.2])
    told = {hit.document_id: [chunk.explain.boost for chunk in hit.chunks if chunk.explain] for hit in found}
    assert told["1"] == [0]
    assert told["2"] == pytest.approx([0.1, 0.1])


def test_with_recency_the_contributions_still_sum_to_the_score() -> None:
    hits = [make_hit(n, (n / 17, "a"), (n / 19, "b"), days=n * n) for n in range(1, 12)]

    for hit in boosted(hits, Recency(half_life_days=7, weight=0.3), now=NOW, grouped=True):
        for chunk in hit.chunks:
            told = chunk.explain
            assert told is not None
            assert told.boost is not None
            assert told.rerank is None
            summed = told.lexical.contribution + told.semantic.contribution + told.boost
            assert summed == pytest.approx(chunk.score, abs=1e-9)


def test_documents_that_recency_makes_equal_stand_by_id() -> None:
    hits = [make_hit(2, (0.5, "a"), days=0), make_hit(3, (0.5, "a"), days=0), make_hit(1, (0.75, "a"))]

    found = boosted(hits, Recency(half_life_days=1, weight=0.25), now=NOW, grouped=True)

    assert scores_of(found) == [("1", 0.75), ("2", 0.75), ("3", 0.75)]


def test_chunks_that_are_hits_of_their_own_stand_by_their_own_id() -> None:
    later, earlier = make_hit(1, (0.5, "a")), replace(make_hit(2, (0.5, "b")), document_id="0")

    found = boosted([earlier, later], Recency(half_life_days=1, weight=0.25), now=NOW, grouped=False)

    assert [hit.chunks[0].chunk_id for hit in found] == ["10", "20"]


@pytest.mark.parametrize(("half_life_days", "days"), [(1e-300, 4000.0), (5e-324, 1.0), (1e6, 1e-9), (1.0, 700_000.0)])
def test_no_age_and_no_half_life_is_too_much(half_life_days: float, days: float) -> None:
    (hit,) = boosted([make_hit(1, (0.5, "a"), days=days)], Recency(half_life_days, 1.0), now=NOW, grouped=True)

    assert 0.5 <= hit.score <= 1.5


async def read_again(hits: Sequence[Hit], question: str) -> tuple[Hit, ...]:
    query = Query(question)
    return await reranked(hits, query, Words.parse(question), reranker=OverlapReranker())


async def test_a_rerankers_scores_take_the_place_of_the_old_ones() -> None:
    hits = (
        make_hit(1, (0.9, "the wolf"), (0.8, "a growling wolf"), title="Forest"),
        make_hit(2, (0.7, "a bear"), (0.6, "growling bear in its den")),
        make_hit(3, (0.5, "the den"), title="Growling bear"),
        make_hit(4, (0.4, "nothing of it")),
    )

    found = await read_again(hits, "growling bear den -wolf")

    assert scores_of(found) == [("2", 1), ("3", 1), ("1", pytest.approx(1 / 3)), ("4", 0)]
    assert [(chunk.text, chunk.score) for chunk in found[0].chunks] == [
        ("growling bear in its den", 1),
        ("a bear", pytest.approx(1 / 3)),
    ]
    assert [chunk.explain.rerank for hit in found for chunk in hit.chunks if chunk.explain] == [
        chunk.score for hit in found for chunk in hit.chunks
    ]


@dataclass
class Noting:
    """A reranker that keeps what it was asked, takes its time, and finds everything equal."""

    seconds: float = 0
    name: str = "noting"
    asked: tuple[str, list[str]] | None = None

    async def score(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        import asyncio  # noqa: PLC0415

        self.asked = (question, list(passages))
        await asyncio.sleep(self.seconds)
        return [0.5 for _ in passages]

    async def close(self) -> None:
        pass


async def test_a_reranker_reads_all_shown_chunks_with_their_titles_in_one_batch() -> None:
    noting = Noting()
    hits = [
        make_hit(1, (0.9, "first"), (0.8, "second"), title="Title"),
        make_hit(2, (0.7, "Title alone"), title="Title alone"),
        make_hit(3, (0.6, "untitled")),
    ]
    words = Words.parse('growling "bear den" -wolf')

    await reranked(hits, Query("as words"), words, reranker=noting)

    assert noting.asked == ("growling bear den", ["Title\nfirst", "Title\nsecond", "Title alone", "untitled"])


async def test_a_reranker_that_takes_longer_than_the_time_limit_is_given_up() -> None:
    query = Query("bear")
    query = replace(query, limits=replace(query.limits, timeout_ms=50))

    with pytest.raises(OverloadedError, match="longer than its time limit"):
        await reranked([make_hit(1, (0.9, "bear"))], query, Words.parse("bear"), reranker=Noting(seconds=3))


def test_the_next_hit_is_relevant_and_unlike_those_above() -> None:
    # The second is the first once more, the third is another matter; the fourth lies between.
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    scores = np.array([3.0, 2.8, 2.0, 1.0])  # relevance 1, .9, .5, 0

    # After the first: .45 - .5, .25 - 0, 0 - .3; after the third: -.05 and 0 - .4.
    assert most_different(scores, vectors, diversity=0.5) == [0, 2, 1, 3]
    # After the first: .72 - .2, .4 - 0, 0 - .12; after the second: .4 and -.12.
    assert most_different(scores, vectors, diversity=0.2) == [0, 1, 2, 3]
    assert most_different(scores, vectors, diversity=0.0) == [0, 1, 2, 3]
    # After the first -1, 0, -.6; after the third the cosines to the nearest are 1 and .8.
    assert most_different(scores, vectors, diversity=1.0) == [0, 2, 3, 1]


def test_twins_and_equal_scores_keep_their_order() -> None:
    vectors = np.tile(directions(1, seed=1).astype(float) / 20, (7, 1))

    assert most_different(np.full(7, 0.25), vectors, diversity=0.5) == list(range(7))
    assert most_different(np.linspace(1, 0, 7), vectors, diversity=0.9) == list(range(7))


@pytest.mark.parametrize("diversity", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("number", [1, 2, 30])
def test_the_order_is_that_of_the_formula_computed_pair_by_pair(number: int, diversity: float) -> None:
    vectors = halves(directions(number, seed=number))
    scores = np.sort(np.random.default_rng(number).random(number))[::-1] * 11 - 3

    assert most_different(scores, vectors, diversity=diversity) == by_brute_force(scores, vectors, diversity)


def by_brute_force(scores: np.ndarray, vectors: np.ndarray, diversity: float) -> list[int]:
    least, most = min(scores), max(scores)
    chosen: list[int] = []

    def gain(at: int) -> float:
        relevance = (scores[at] - least) / (most - least) if most > least else 0.0
        nearest = max((cosine(vectors[at], vectors[other]) for other in chosen), default=0.0)
        return float((1 - diversity) * relevance - diversity * nearest)

    while len(chosen) < len(scores):
        chosen.append(max((at for at in range(len(scores)) if at not in chosen), key=gain))
    return chosen


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return round(float(one @ other / np.sqrt((one @ one) * (other @ other))), 9)


@pytest.fixture(scope="module")
async def woods(api: Api, resources: Resources) -> Library:
    """Forty documents, every fifth of them a little older, every third undated; four directions, each ten times, nearly."""
    documents = []
    for n, vector in enumerate(VECTORS_OF):
        published = {} if n % 3 == 0 else {"published_at": (NOW - timedelta(days=n * 5)).isoformat()}
        alike = VECTORS_OF[n % 4] * 3 + vector + NEAR
        documents.append({"text": f"{TEXTS[n % 5]} {n}", "vector": alike.tolist(), **published})
    filled = await library(api, resources, documents)
    return filled.having(reranker=OverlapReranker())


async def found(woods: Library, question: str, **fields: Any) -> tuple[Hit, ...]:
    """As the search gives them to `rearranged`."""
    return (await woods.ask(question, limit=40, explain=True, **fields)).hits


async def asked(
    woods: Library, hits: tuple[Hit, ...], asking: Rearrangement, question: str = "growling bear", **fields: Any
) -> tuple[Hit, ...]:
    query = woods.query(question, rearranged=asking, **fields)
    words = Words.parse(question)
    return await rearranged(hits, query, words, woods.collection, tools=woods.tools, now=NOW)


ALL = Rearrangement(top_n=12, recency=Recency(30, 0.4), rerank=True, diversity=0.6)


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic"])
@pytest.mark.parametrize("grouped", [True, False])
async def test_every_hit_comes_back_once_whatever_is_asked(woods: Library, mode: str, *, grouped: bool) -> None:
    hits = await found(woods, "growling bear", mode=mode, grouped=grouped)

    for asking in (ALL, *(replace(Rearrangement(), **{step: getattr(ALL, step)}) for step in STEPS)):
        again = await asked(woods, hits, asking, grouped=grouped, mode=mode)
        assert sorted(by_chunk(again)) == sorted(by_chunk(hits)), asking
        assert again != hits
        assert all(hit.score == hit.chunks[0].score for hit in again)


STEPS = ("recency", "rerank", "diversity")


def by_chunk(hits: Sequence[Hit]) -> dict[str, float]:
    return {chunk.chunk_id: chunk.score for hit in hits for chunk in hit.chunks}


async def test_the_steps_follow_each_other(woods: Library) -> None:
    hits = await found(woods, "growling bear")

    newer = await asked(woods, hits, Rearrangement(recency=ALL.recency))
    read = await asked(woods, newer, Rearrangement(top_n=12, rerank=True))
    mixed = await asked(woods, read[:12], Rearrangement(diversity=0.6))

    assert ids(await asked(woods, hits, ALL)) == ids(mixed + read[12:])
    assert len({tuple(ids(each)) for each in (hits, newer, read, mixed + read[12:])}) == 4


def ids(hits: Sequence[Hit]) -> list[str | None]:
    return [hit.external_id for hit in hits]


async def test_what_the_reranker_does_not_read_stays_behind_with_its_score(woods: Library) -> None:
    hits = await found(woods, "growling bear", mode="lexical")

    again = await asked(woods, hits, Rearrangement(top_n=5, rerank=True, diversity=0.5))

    assert set(ids(again[:5])) == set(ids(hits[:5]))
    assert again[5:] == hits[5:]
    assert len(hits) > 10
    assert {0, 0.5, 1} >= {hit.score for hit in again[:5]}


async def test_diversity_is_the_formula_over_the_stored_embeddings(woods: Library) -> None:
    hits = await found(woods, "", mode="semantic", vector=NEAR)
    numbers = [int(hit.external_id or "") for hit in hits]
    alike = np.stack([VECTORS_OF[n % 4] * 3 + VECTORS_OF[n] + NEAR for n in numbers])
    scores = np.array([hit.score for hit in hits])

    for diversity in (0.2, 0.5, 0.8):
        again = await asked(woods, hits, Rearrangement(diversity=diversity), question="")
        order = by_brute_force(scores, halves(alike), diversity)
        assert ids(again) == [hits[at].external_id for at in order]
        assert by_chunk(again) == by_chunk(hits)
    assert len({n % 4 for n in map(int, ids(again)[:4])}) == 4  # type: ignore[arg-type]  # all have one
    assert len({n % 4 for n in numbers[:4]}) < 4


async def test_without_hits_there_is_nothing_to_rearrange(woods: Library) -> None:
    assert await asked(woods, (), ALL) == ()


async def test_without_a_reranker_the_client_is_told_how_to_get_one(woods: Library) -> None:
    with pytest.raises(InvalidError, match="RERANKER_MODEL") as caught:
        await asked(woods.having(reranker=None), (), Rearrangement(rerank=True))

    assert caught.value.field == "rerank"
    assert await asked(woods.having(reranker=None), (), Rearrangement(diversity=0.5)) == ()


async def test_a_vector_alone_is_no_question_to_read_with(woods: Library) -> None:
    with pytest.raises(InvalidError, match="no question") as caught:
        await asked(woods, (), Rearrangement(rerank=True), question="", mode="semantic", vector=NEAR)

    assert caught.value.field == "rerank"


async def test_a_reranker_that_fails_is_no_silent_order(woods: Library) -> None:
    closed: Reranker = OverlapReranker()
    await closed.close()

    with pytest.raises(UnavailableError):
        await asked(woods.having(reranker=closed), await found(woods, "bear"), Rearrangement(rerank=True))


async def vectors(woods: Library, chunk_ids: Sequence[str], **scope: UUID) -> dict[str, np.ndarray]:
    collection = woods.collection
    ids = {
        "collection_id": collection.id,
        "profile_id": collection.profile_id,
        "tenant_id": collection.tenant_id,
        **scope,
    }
    settings = {"app.tenant_id": str(ids.pop("tenant_id"))}
    return await read_vectors(chunk_ids, **ids, reader=woods.tools.reader, settings=settings)


@pytest.mark.parametrize("driver", ["psqlpy", "asyncpg"])
async def test_the_vectors_are_those_of_the_chunks_asked_for(woods: Library, resources: Resources, driver: str) -> None:
    hits = (await found(woods, "", mode="semantic", vector=NEAR))[:7]
    settings = resources.settings.model_copy(update={"search_driver": driver})
    reader = open_search_door(address_of(settings.search_database_url, settings), settings)

    read = await vectors(woods.having(reader=reader), [hit.chunks[0].chunk_id for hit in hits])
    await reader.close()

    assert list(read) != []
    for hit in hits:
        n = int(hit.external_id or "")
        expected = halves(VECTORS_OF[n % 4] * 3 + VECTORS_OF[n] + NEAR)
        assert read[hit.chunks[0].chunk_id] == pytest.approx(expected, abs=1e-3)
    assert len(read) == 7


async def test_no_vector_of_a_foreign_tenant_or_of_another_collection_is_read(
    woods: Library, other_api: Api, api: Api, resources: Resources
) -> None:
    chunk_ids = [hit.chunks[0].chunk_id for hit in await found(woods, "bear")]
    theirs = await library(other_api, resources, [{"text": "bear"}])
    beside = await library(api, resources, [{"text": "bear"}])

    assert len(await vectors(woods, chunk_ids)) == len(chunk_ids) > 5
    assert await vectors(woods, chunk_ids, tenant_id=theirs.collection.tenant_id) == {}
    assert await vectors(woods, chunk_ids, tenant_id=new_id()) == {}
    assert await vectors(theirs, chunk_ids) == {}
    assert await vectors(beside, chunk_ids) == {}


async def test_a_document_that_is_gone_meanwhile_keeps_a_place(woods: Library) -> None:
    hits = await found(woods, "growling bear")
    gone = replace(hits[1], chunks=tuple(replace(chunk, chunk_id=str(new_id())) for chunk in hits[1].chunks))

    again = await asked(woods, (hits[0], gone, *hits[2:]), Rearrangement(diversity=0.5))

    assert sorted(ids(again)) == sorted(ids(hits))  # type: ignore[type-var]  # all have one


@pytest.mark.parametrize("plan_mode", ["force_custom_plan", "force_generic_plan"])
async def test_vectors_are_found_by_their_chunks(api: Api, resources: Resources, plan_mode: str) -> None:
    many = await library(api, resources, [{"text": f"bear {n}"} for n in range(600)])
    await analyze(resources)
    sent = Sent(many.tools.reader)
    hits = (await many.ask("bear", limit=50)).hits
    await vectors(many.having(reader=sent), [hit.chunks[0].chunk_id for hit in hits])

    async with searcher(resources) as connection, connection.transaction():
        await connection.execute(f"set local plan_cache_mode = {plan_mode}")
        await connection.execute("select set_config('app.tenant_id', $1, true)", sent.settings["app.tenant_id"])
        rows = await connection.fetch(f"explain (analyze, costs off, timing off) {VECTORS.sql}", *sent.values)
    plan = "\n".join(line for (line,) in rows)

    assert "_pkey" in plan, plan
    assert "_collection_id_idx" not in plan, plan
    assert "Seq Scan on embeddings" not in plan, plan


@pytest.mark.parametrize(
    "asking", [replace(ALL, top_n=50), *(replace(Rearrangement(), **{step: getattr(ALL, step)}) for step in STEPS)]
)
async def test_pages_follow_each_other_in_the_new_order_and_explain_it(woods: Library, asking: Rearrangement) -> None:
    whole = (await woods.ask("growling bear", limit=40, rearranged=asking)).hits
    walked: list[Hit] = []
    cursor = None
    while cursor is not None or not walked:
        page = await woods.ask("growling bear", limit=7, rearranged=asking, cursor=cursor, explain=True)
        walked += page.hits
        cursor = page.next_cursor

    assert ids(walked) == ids(whole)
    assert [hit.score for hit in walked] == pytest.approx([hit.score for hit in whole], abs=1e-5)
    assert len(whole) == 40
    for chunk in (chunk for hit in walked for chunk in hit.chunks):
        told = chunk.explain
        assert told is not None
        summed = told.lexical.contribution + told.semantic.contribution + (told.boost or 0)
        assert chunk.score == pytest.approx(summed if told.rerank is None else told.rerank, abs=1e-9)
        assert (told.boost is None, told.rerank is None) == (asking.recency is None, not asking.rerank)
    assert ids(whole) != ids((await woods.ask("growling bear", limit=40)).hits)


async def test_asked_over_http_the_newer_document_comes_first_and_says_why(api: Api, resources: Resources) -> None:
    now = datetime.now(UTC)
    dates = [(now - timedelta(days=days)).isoformat() for days in (3000, 30, 300)]
    filled = await library(api, resources, [{"text": "growling bear", "published_at": date} for date in dates])
    url = f"/v1/collections/{filled.collection.name}/search"
    boost = {"recency": {"half_life_days": 30, "weight": 0.2}}

    answer = await api.client.post(url, json={"query": "bear", "boost": boost, "include": ["explain"]})

    assert answer.status_code == 200, answer.text
    hits = answer.json()["hits"]
    assert [hit["external_id"] for hit in hits] == ["1", "2", "0"]
    told = hits[0]["chunks"][0]["explain"]
    assert told["boost"] == pytest.approx(0.1, abs=1e-4)
    summed = told["lexical"]["contribution"] + told["semantic"]["contribution"] + told["boost"]
    assert summed == pytest.approx(hits[0]["score"], abs=1e-9)


async def test_asked_over_http_without_a_reranker_it_is_a_422_that_names_the_field(woods: Library, api: Api) -> None:
    url = f"/v1/collections/{woods.collection.name}/search"

    answer = await api.client.post(url, json={"query": "bear", "rerank": {"top_n": 5}})

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["rerank"]
    assert "RERANKER_MODEL" in answer.text
