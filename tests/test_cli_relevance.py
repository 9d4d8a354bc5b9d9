"""What the figures of relevance and exactness compare with, and that a difference is seen."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from service.cli.evaluate import Evaluation, ModeReport
from service.cli.figures.explain import differences_of
from service.cli.figures.facets import agrees, values_of
from service.cli.figures.independent import IndependentBm25, agreement, reciprocal_ranks, throw_away_textbook
from service.cli.figures.lexical import kept
from service.cli.figures.relevance import Gains, figures
from service.db.textbook import Counted
from tests.search_oracle import bm25

PASSAGES = {
    "a": "Bears\nGrowling bears growl at night, o'clock after o'clock.",
    "b": "Wolves\nA wolf growls; see http://example.org/o'clock?b=1&c or C:\\bears.",
    "c": "Otters\nOtters hold hands.",
    "d": "",
}


async def test_the_textbook_finds_any_word_of_a_question_whatever_is_in_it() -> None:
    async with throw_away_textbook(PASSAGES, language="english") as textbook:
        assert await textbook.ranked("growling bears") == ["a", "b"]
        assert await textbook.ranked("growling bears", limit=1) == ["a"]
        assert await textbook.ranked("http://example.org/o'clock?b=1&c | 'otters' \\ !") == ["b", "c"]
        assert await textbook.ranked("the") == []
        assert await textbook.lexemes("The bears' bears growled") == ["bear", "growl"]


async def test_bm25_beside_the_service_is_the_formula() -> None:
    async with throw_away_textbook(PASSAGES, language="english") as textbook:
        counted = await textbook.counted()
        question = await textbook.lexemes("growling bears and otters")
    lexemes = {each.id: counter(each) for each in counted}
    average = sum(sum(each.values()) for each in lexemes.values()) / len(lexemes)
    expected = bm25(question, lexemes, average=average)

    reference = IndependentBm25(counted)
    scores = reference.scores(question)

    assert {name: scores[place] for name, place in reference.places.items() if scores[place]} == pytest.approx(expected)
    assert reference.best(question, 2) == sorted(expected, key=lambda name: -expected[name])[:2]
    assert not reference.scores(["unheard"]).any()


def counter(counted: Counted) -> Any:
    from collections import Counter  # noqa: PLC0415  beside its one use

    return Counter(dict(zip(counted.lexemes, counted.counts, strict=True)))


@pytest.mark.parametrize(
    ("found", "share"),
    [(["a", "b"], 1.0), (["a", "c"], 1.0), (["a", "a"], 0.5), (["d", "e"], 0.0), (["a", "unknown"], 0.5), ([], 0.0)],
)
def test_of_equal_scores_either_may_be_found_and_nothing_counts_twice(found: Sequence[str], share: float) -> None:
    places = {name: place for place, name in enumerate("abcde")}

    assert agreement(found, np.array([3.0, 2.0, 2.0, 1.0, 0.0]), places, top=2) == share


def test_where_nothing_exists_only_nothing_is_right() -> None:
    nothing = np.zeros(2)

    assert agreement([], nothing, {"a": 0, "b": 1}, top=10) == 1.0
    assert agreement(["a"], nothing, {"a": 0, "b": 1}, top=10) == 0.0


def test_a_bounded_answer_is_held_against_the_scores_of_the_unbounded() -> None:
    unbounded = {"a": 3.0, "b": 2.0, "c": 1.0}

    assert kept({"a": 3.0, "b": 2.0, "tie": 1.0}, unbounded) == 1.0
    assert kept({"a": 3.0, "worse": 0.9, "worst": 0.1}, unbounded) == pytest.approx(1 / 3)
    assert kept({}, {}) == 1.0


def test_reciprocal_ranks_count_from_one_and_ties_go_by_name() -> None:
    assert reciprocal_ranks(["b", "a"], ["a", "c"]) == ["a", "b", "c"]
    assert reciprocal_ranks(["b"], ["a"]) == ["a", "b"]


def test_a_score_that_its_contributions_do_not_make_is_seen() -> None:
    def chunk(score: float, *parts: float) -> dict[str, Any]:
        shares = zip(("lexical", "semantic"), parts, strict=True)
        return {"score": score, "explain": {leg: {"contribution": part} for leg, part in shares}}

    def worst(*hits: dict[str, Any]) -> float:
        return max(differences_of({"hits": hits}))

    assert worst({"score": 0.5, "chunks": [chunk(0.5, 0.25, 0.25), chunk(0.25, 0.25, 0.0)]}) == 0.0
    assert worst({"score": 0.5, "chunks": [chunk(0.5, 0.25, 0.25), chunk(0.25, 0.25, 1e-6)]}) == pytest.approx(1e-6)
    assert worst({"score": 0.6, "chunks": [chunk(0.5, 0.25, 0.25)]}) == pytest.approx(0.1)
    assert worst({"score": 0.5, "chunks": [{"score": 0.5}]}) == math.inf


RECOUNT = {"x": 3, "y": 2, 2020: 2}


@pytest.mark.parametrize(
    ("shown", "relation", "right"),
    [
        ({"x": 3, "y": 2, 2020: 2}, "eq", True),
        ({"x": 3, "y": 2, 2020: 2}, "gte", False),
        ({"x": 3, "y": 2}, "eq", False),
        ({"x": 3, "y": 1, 2020: 2}, "eq", False),
        ({"x": 3, "y": 2, 2020: 2, "z": 1}, "eq", False),
    ],
)
def test_a_facet_is_right_when_every_value_is(shown: dict[Any, int], relation: str, right: bool) -> None:  # noqa: FBT001
    facet = {"values": [{"value": value, "count": count} for value, count in shown.items()], "relation": relation}

    assert agrees(facet, RECOUNT) is right


def test_a_document_counts_once_for_each_value_of_a_list() -> None:
    document = {"tags": ["a", "b", "a"], "source": None, "attributes": {"year": 2020}}

    assert [values_of(document, facet) for facet in ("tags", "source", "attributes.year", "attributes.none")] == [
        {"a", "b"},
        set(),
        {2020},
        set(),
    ]


def mode(name: str, ndcg: float) -> ModeReport:
    return ModeReport(name, ndcg, 1.0, 1.0, 1.0, queries=1, failures=0)


def test_hybrid_is_held_against_whatever_was_measured_beside_it() -> None:
    evaluation = Evaluation("c", 1, (mode("hybrid", 0.5), mode("rrf", 0.4)), None, None, (mode("bm25s", 0.6),))

    assert evaluation.hybrid_over("rrf") == pytest.approx(0.1)
    assert evaluation.hybrid_over("bm25s") == pytest.approx(-0.1)
    assert evaluation.hybrid_over("textbook") is None


GOOD = Gains("cranfield", leg=0.02, rrf=0.0, textbook=0.05, chunked=0.04)
SCIFACT = Gains("scifact_train", leg=0.05, rrf=0.02, textbook=0.12, chunked=0.09)


@pytest.mark.parametrize(
    ("other", "met"),
    [
        (SCIFACT, [True, True, True]),
        (Gains("scifact_train", leg=0.035, rrf=0.02, textbook=0.12, chunked=0.09), [False, True, True]),
        (Gains("medquad_dev", leg=0.014, rrf=0.02, textbook=0.12, chunked=0.09), [False, True, True]),
        (Gains("medquad_dev", leg=0.05, rrf=0.019, textbook=0.12, chunked=0.09), [True, False, True]),
        (Gains("medquad_dev", leg=0.05, rrf=0.02, textbook=0.016, chunked=0.0), [True, True, True]),
        (Gains("scifact_train", leg=0.05, rrf=0.02, textbook=0.09, chunked=0.09), [True, True, False]),
    ],
)
def test_each_goal_is_missed_by_what_is_below_it(other: Gains, met: list[bool]) -> None:
    assert [figure.met for figure in figures([GOOD, other])] == met
