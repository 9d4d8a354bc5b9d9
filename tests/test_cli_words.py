"""Conditions and marks: what stands between a command line and the service, without either."""

import pytest

from service.cli.asking import plain
from service.cli.conditions import read_condition, to_filter, typed
from service.cli.failures import UnclearError
from service.cli.marking import mark, passage
from service.cli.questions import Question

DECLARED = {"year": "integer", "since": "string", "at": "timestamp", "who": "string[]"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("year=2020", {"attributes.year": {"$eq": 2020}}),
        ("year >= 2020", {"attributes.year": {"$gte": 2020}}),
        ("attributes.deep.er<2.5", {"attributes.deep.er": {"$lt": 2.5}}),
        ("since=3.10", {"attributes.since": {"$eq": "3.10"}}),
        ("title=2020", {"title": {"$eq": "2020"}}),
        ("title=", {"title": {"$eq": ""}}),
        ("published_at>2024-01-01T00:00:00Z", {"published_at": {"$gt": "2024-01-01T00:00:00Z"}}),
        ("at<=2024", {"attributes.at": {"$lte": "2024"}}),
        ("unknown=3.10", {"attributes.unknown": {"$eq": 3.1}}),
        ('unknown="3.10"', {"attributes.unknown": {"$eq": "3.10"}}),
        ("unknown=null", {"attributes.unknown": {"$eq": None}}),
        ("unknown=a=b>c", {"attributes.unknown": {"$eq": "a=b>c"}}),
        ("unknown=[1]", {"attributes.unknown": {"$eq": "[1]"}}),
        ("tags=3", {"tags": {"$contains": "3"}}),
        ("who!=me", {"$not": {"attributes.who": {"$contains": "me"}}}),
        (' {"year": 1}', {"year": 1}),
    ],
)
def test_a_condition_becomes_the_filter_of_the_contract(written: str, expected: object) -> None:
    assert to_filter([read_condition(written)], declared=DECLARED) == expected


def test_no_condition_is_no_filter_and_several_must_all_hold() -> None:
    two = [read_condition("year=1"), read_condition('{"$or": []}')]

    assert to_filter([], declared={}) is None
    assert to_filter(two, declared={}) == {"$and": [{"attributes.year": {"$eq": 1}}, {"$or": []}]}


@pytest.mark.parametrize("written", ["", "year", "=2020", "{year}", "year:2020"])
def test_what_is_no_condition_is_told(written: str) -> None:
    with pytest.raises(UnclearError):
        read_condition(written)


def test_text_that_reads_like_no_value_is_sent_as_it_is() -> None:
    assert (typed("soon", type_="integer"), typed("NaN", type_=None)) == ("soon", "NaN")


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("sleeping owls", "The owl sleeps; sleepers slept.", "The *owl* *sleeps*; *sleepers* slept."),
        ("the owl", "The owl and the other", "The *owl* and the other"),
        ('"context manager"', "Contexts contain context-managers", "*Contexts* contain *context*-*managers*"),
        ("read -file", "read_text of a file", "*read*_text of a file"),
        ("running", "he runs, a run, rung", "he *runs*, a *run*, rung"),
        ("classes", "class Class classic", "*class* *Class* classic"),
        ("Straße", "STRASSE", "*STRASSE*"),
        ("and", "sand and stone", "sand and stone"),
        ("", "nothing", "nothing"),
    ],
)
def test_forms_of_a_word_are_marked_and_others_are_not(query: str, text: str, marked: str) -> None:
    assert mark(text, query, style=None).plain == marked
    assert mark(text, query, style="bold").plain == text


def test_a_passage_is_where_most_different_words_are() -> None:
    filler = " ".join(["filler"] * 50)
    text = f"wolf wolf wolf {filler} a bear met a wolf {filler} bear bear {filler}"

    shown = passage(text, "bear wolf", length=80)

    assert "a bear met a wolf" in shown
    assert shown.startswith("… filler")
    assert shown.endswith("filler …")
    assert len(shown) <= 80 + 4


def test_a_passage_without_any_word_is_its_beginning_and_a_short_one_is_whole() -> None:
    text = "one two three four five six seven"

    assert passage(text, "bear", length=16) == "one two three …"
    assert passage(text, "bear", length=100) == text


def test_one_line_of_text_holds_nothing_that_steers() -> None:
    assert plain("a\n\tb\x1b[31mc\x9bd  e\x00") == "a b [31mc d e"


def test_a_question_prints_the_line_that_asks_it_with_what_differs_from_the_defaults() -> None:
    plainly = Question(query="it's")
    fully = Question(query='a "b"', collection="c", conditions=("x>1", "y=z"), mode="lexical", limit=3, group_by="none")

    assert plainly.to_command().endswith(""" search 'it'"'"'s'""")
    assert fully.to_command().endswith(
        """ search 'a "b"' --collection c --filter 'x>1' --filter y=z --mode lexical --group-by none --limit 3"""
    )
