"""Why a chunk is where it is: what each leg gave, and the threshold on what they came to together."""

from typing import Any

import pytest

from service.domain.hits import Explanation, Hits
from service.resources import Resources
from tests.api_calls import Api
from tests.search_calls import Library, directions, library

WORDS = ["bear", "wolf", "otter", "raven", "salmon", "thistle"]
QUESTION = "growling bear otter thistle"
NEAR, *VECTORS = directions(41, seed=5)


@pytest.fixture(scope="module")
async def zoo(api: Api, resources: Resources) -> Library:
    texts = [" ".join(WORDS[n % 6 : 1 + n % 5]) or f"nothing {n}" for n in range(40)]
    pairs = zip(texts, VECTORS, strict=True)
    return await library(api, resources, [{"text": text, "vector": vector.tolist()} for text, vector in pairs])


def told(hits: Hits) -> dict[str, Explanation]:
    found = {chunk.chunk_id: chunk.explain for hit in hits.hits for chunk in hit.chunks}
    assert all(found.values())
    return {chunk: explanation for chunk, explanation in found.items() if explanation is not None}


@pytest.mark.parametrize("window", [200, 7])
@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "hybrid"},
        {"alpha": 0.0},
        {"method": "rrf"},
        {"method": "rrf", "lexical_weight": 3.0, "k": 2.0},
        {"mode": "lexical"},
        {"mode": "semantic"},
    ],
    ids=str,
)
async def test_the_contributions_sum_to_the_score(zoo: Library, fields: dict[str, Any], window: int) -> None:
    found = await zoo.ask(QUESTION, vector=NEAR, limit=100, window=window, explain=True, **fields)
    plain = await zoo.ask(QUESTION, vector=NEAR, limit=100, window=window, **fields)

    for hit in found.hits:
        for chunk in hit.chunks:
            assert chunk.explain is not None
            parts = chunk.explain.lexical.contribution + chunk.explain.semantic.contribution
            assert parts == pytest.approx(chunk.score, abs=1e-9)
    assert [(hit.document_id, hit.score) for hit in plain.hits] == [(hit.document_id, hit.score) for hit in found.hits]
    assert len(found.hits) > 5


@pytest.mark.parametrize("method", ["linear", "rrf"])
async def test_ranks_and_scores_are_those_of_the_legs_alone(zoo: Library, method: str) -> None:
    window = 9
    explained = told(
        await zoo.ask(QUESTION, vector=NEAR, limit=100, window=window, method=method, grouped=False, explain=True)
    )

    for mode in ("lexical", "semantic"):
        alone = await zoo.ask(QUESTION, vector=NEAR, mode=mode, grouped=False, limit=100)
        scores = {hit.chunks[0].chunk_id: hit.score for hit in alone.hits}
        ranks = {hit.chunks[0].chunk_id: rank for rank, hit in enumerate(alone.hits[:window], 1)}
        for chunk, explanation in explained.items():
            share = getattr(explanation, mode)
            assert share.rank == ranks.get(chunk)
            if method == "linear":
                assert share.score == pytest.approx(scores.get(chunk, 0.0), abs=1e-6)
            else:
                assert share.score == (pytest.approx(scores[chunk], abs=1e-6) if chunk in ranks else None)
        assert set(ranks) <= set(explained)


async def test_a_leg_that_was_not_asked_gave_nothing(zoo: Library) -> None:
    for mode, other in (("lexical", "semantic"), ("semantic", "lexical")):
        for explanation in told(await zoo.ask(QUESTION, mode=mode, vector=NEAR, explain=True)).values():
            silent = getattr(explanation, other)
            assert (silent.rank, silent.score, silent.contribution) == (None, None, 0.0)


async def test_a_foreign_word_is_worth_nothing_and_both_formulas_stay_defined(zoo: Library) -> None:
    found = told(await zoo.ask("unheard", vector=NEAR, explain=True))

    assert {explanation.lexical.contribution for explanation in found.values()} == {0.0}
    assert len(found) == 10


@pytest.mark.parametrize("fields", [{}, {"method": "rrf"}, {"mode": "lexical"}, {"mode": "semantic"}], ids=str)
async def test_a_threshold_keeps_what_reaches_it(zoo: Library, fields: dict[str, Any]) -> None:
    everything = await zoo.ask(QUESTION, vector=NEAR, limit=100, **fields)
    middle = everything.hits[len(everything.hits) // 2].score

    kept = await zoo.ask(QUESTION, vector=NEAR, limit=100, score_threshold=middle, **fields)

    assert kept.hits == tuple(hit for hit in everything.hits if hit.score >= middle)
    assert 0 < len(kept.hits) < len(everything.hits)
    assert (await zoo.ask(QUESTION, vector=NEAR, score_threshold=1e9, **fields)).hits == ()


async def test_a_threshold_cuts_chunks_too(api: Api, resources: Resources) -> None:
    long = " ".join(f"The {WORDS[n % 6]} went by on day {n}." for n in range(200)) + " A thistle, thistle, thistle."
    den = await library(api, resources, [{"text": long}])
    (whole,) = (await den.ask("thistle day", mode="lexical", chunks_per_document=10)).hits

    (kept,) = (await den.ask("thistle day", mode="lexical", chunks_per_document=10, score_threshold=whole.score)).hits

    assert [chunk.chunk_id for chunk in kept.chunks] == [chunk.chunk_id for chunk in whole.chunks[:1]]
    assert whole.chunks[1].score < whole.score


class Counting:
    """A reader that counts what it is asked."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.asked = reader, 0

    async def fetch(self, *args: Any, **fields: Any) -> Any:
        self.asked += 1
        return await self.reader.fetch(*args, **fields)


async def test_a_leg_alone_does_not_go_on_below_its_threshold(zoo: Library) -> None:
    reader = Counting(zoo.tools.reader)
    counted = zoo.having(reader=reader)
    fields: dict[str, Any] = {"mode": "semantic", "vector": NEAR, "window": 4, "limit": 20}
    third = (await zoo.ask(QUESTION, **fields)).hits[2].score

    found = await counted.ask(QUESTION, score_threshold=third, **fields)
    once = reader.asked
    everything = await counted.ask(QUESTION, score_threshold=-1.0, **fields)

    assert (len(found.hits), once) == (3, 1)
    assert (len(everything.hits), reader.asked - once) == (20, 2)
