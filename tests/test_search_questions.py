"""What a question may say: words are OR, a quoted phrase must occur, `-word` must not; in all modes, filtered or not."""

import pytest

from service.domain.errors import InvalidError
from service.domain.queries import Words
from service.resources import Resources
from tests.api_calls import Api
from tests.search_calls import Library, library

SHELF = {
    "new-york": {"title": "Cities", "text": "The New York subway runs all night."},
    "york-new": {"title": "Cities", "text": "York has a new cathedral roof."},
    "the-who": {"title": "Bands", "text": "The Who played the loudest concert of the decade."},
    "bear": {"title": "Animals", "text": "Growling bears chase a running man."},
    "wolf": {"title": "Animals", "text": "A wolf runs from growling dogs."},
    "self-made": {"title": "People", "text": "A self-made man in the city."},
    "made-self": {"title": "People", "text": "She made the cake for her inner self."},
    "seam": {"title": "Growling", "text": "Bears are here only in the text."},
    "german": {"title": "Städte", "text": "Die alten Häuser am Fluss.", "language": "german"},
    "numbers": {"title": "Figures", "text": "It was 5 below and minus -7 at night, c-3po said."},
}
MODES = ("hybrid", "lexical", "semantic")


@pytest.fixture(scope="module")
async def shelf(api: Api, resources: Resources) -> Library:
    return await library(api, resources, [{"external_id": name, **body} for name, body in SHELF.items()])


async def found(shelf: Library, question: str, *, mode: str) -> set[str | None]:
    """The same with a filter that all pass, with either fusion, by chunk or by document, on either route."""
    answers = [
        set(await library.ids(question, mode=mode, **fields))
        for library in (shelf, shelf.having(exact_chunks=0))
        for fields in ({}, {"filter": {"title": {"$ne": "x"}}}, {"method": "rrf"}, {"grouped": False})
    ]
    assert all(answer == answers[0] for answer in answers), answers
    return answers[0]


async def test_words_are_or(shelf: Library) -> None:
    assert await found(shelf, "subway cathedral xylophone", mode="lexical") == {"new-york", "york-new"}
    assert await found(shelf, "SUBWAYS", mode="lexical") == {"new-york"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ('"new york"', {"new-york"}),
        ('city "New Yorks" roof', {"new-york"}),
        ('"york new"', set()),
        ('"growling bear"', {"bear"}),
        ('"growl" "run"', {"bear", "wolf"}),
        ('"growling bears" "running man"', {"bear"}),
        ('"growling bears" "new york"', set()),
        ('"running" -wolf', {"new-york", "bear"}),
        ('"self-made man"', {"self-made"}),
        ('"loudest of the concert"', set()),
        ('"concert of the decade"', {"the-who"}),
        ('"xylophone"', set()),
        ('"subway" xylophone', {"new-york"}),
    ],
)
async def test_a_quoted_phrase_must_occur(shelf: Library, mode: str, question: str, expected: set[str]) -> None:
    assert await found(shelf, question, mode=mode) == expected


@pytest.mark.parametrize("mode", ["hybrid", "semantic"])
@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("city -bears", {"bear", "seam"}),
        ("-growl city", {"bear", "wolf", "seam"}),
        ("city -bear -dog", {"bear", "wolf", "seam"}),
        ("city -BEAR,", {"bear", "seam"}),
        ("city -self-made", {"self-made"}),
        ("city -the", set()),
        ("city -xylophone", set()),
        ("city self-made", set()),
        ("city-bear", set()),
        ("city - bear", set()),
        ("below -5", set()),
        ("below -7 c-3po", set()),
        ("city --bear", set()),
        ('city "subway -roof"', set(SHELF)),
        ('city "subway"-roof', set(SHELF) - {"new-york"}),
        ('city -"growling bears"', {"bear"}),
        ('city -"bears growling" -"of the"', set()),
        ('city -"bears" -"running man"', {"bear", "seam"}),
        ('city -"new york" - "running man"', set(SHELF) - {"bear"}),
        ('city -"running man"', {"bear"}),
    ],
)
async def test_an_excluded_word_must_not_occur(shelf: Library, mode: str, question: str, missing: set[str]) -> None:
    assert await found(shelf, question, mode=mode) == set(SHELF) - missing


async def test_an_excluded_word_leaves_the_lexical_leg_too(shelf: Library) -> None:
    assert await found(shelf, "growling -wolf", mode="lexical") == {"bear", "seam"}
    assert await found(shelf, "running -growling", mode="lexical") == {"new-york"}


async def test_a_phrase_does_not_reach_from_the_title_into_the_text(shelf: Library) -> None:
    assert await found(shelf, '"growling" "bears"', mode="lexical") == {"bear", "seam"}
    assert await found(shelf, '"growling bears"', mode="lexical") == {"bear"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_phrase_of_stop_words_asks_for_nothing(shelf: Library, mode: str) -> None:
    everything = set() if mode == "lexical" else set(SHELF)

    assert await found(shelf, '"of the"', mode=mode) == everything
    assert await found(shelf, "the of and", mode=mode) == everything
    assert await found(shelf, '"of the" subway', mode="lexical") == {"new-york"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "question",
    [
        '"new york',
        'new york"',
        "growling bear 🐻 \u200b ﷽ \U0010ffff",
        "'; drop table documents; --",
        "$1 :question %s %(x)s {} \\ ' \" \x01 & | ! <-> :* ()",
        "bear & !wolf | (york <-> new):*",
        "a" * 10_000,
        " ".join(f"w{n}" for n in range(1_600)),
        '"' * 5_000 + "bear",
        '"bear" ' * 1_400,
        "bear " + "-wolf " * 1_600,
        "🐻" * 10_000,
        "é" * 3_000,
        "<b>bear</b> http://example.com/bear?x=1 bear@example.com",
    ],
    ids=range(14),
)
async def test_any_text_is_a_question(shelf: Library, mode: str, question: str) -> None:
    await found(shelf, question, mode=mode)

    assert await shelf.ids('"new york"', mode=mode) == ["new-york"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("question", ["", " \n", "-bear", "-bear -wolf", '""', '" " -bear', '"'])
async def test_a_question_that_looks_for_nothing_is_refused(shelf: Library, mode: str, question: str) -> None:
    with pytest.raises(InvalidError) as refused:
        await shelf.ask(question, mode=mode)

    assert refused.value.field == "query"


async def test_only_exclusions_are_enough_beside_a_vector(shelf: Library) -> None:
    vector = [1.0, *[0.0] * 383]

    assert set(await shelf.ids("-bears", vector=vector, mode="semantic")) == set(SHELF) - {"bear", "seam"}
    assert set(await shelf.ids("-bears", vector=vector)) == set(SHELF) - {"bear", "seam"}
    with pytest.raises(InvalidError):
        await shelf.ask("-bears", vector=vector, mode="lexical")


@pytest.mark.parametrize(
    ("question", "text", "phrases", "excluded"),
    [
        ('a "b c" -d e', "a b c e", ("b c",), ("d",)),
        ('"e -f" g-h', "e -f g-h", ("e -f",), ()),
        ("a\n-b\t-é -ß", "a", (), ("b", "é", "ß")),
        ('-a"b"', "b", ("b",), ("a",)),
        ('"a" "" " " "b', "a b", ("a",), ()),
        ("a -1 --b - c", "a -1 --b - c", (), ()),
        ('a -"b c" "d e"', "a d e", ("d e",), ("b c",)),
        ('a -"" -" " x-"b c"', "a x- b c", ("b c",), ()),
        ('-a -"b', "- b", (), ("a",)),
    ],
)
async def test_a_question_is_taken_apart(
    question: str, text: str, phrases: tuple[str, ...], excluded: tuple[str, ...]
) -> None:
    assert Words.parse(question) == Words(text, phrases, excluded)
