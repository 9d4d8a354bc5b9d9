"""Highlights: of each shown chunk the words that matched, in their sentences; else the sentence that means the question."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.db.marks import Mark
from service.domain.errors import NotFoundError, OverloadedError, UnavailableError
from service.domain.hits import ChunkHit, Hit
from service.domain.ids import new_id
from service.domain.queries import Tags, Words
from service.embeddings.base import Matrix
from service.embeddings.hashing import HashingEmbedder
from service.resources import Resources
from service.search.highlight import found_marks, highlighted
from service.search.passages import CHARACTERS, FRAGMENTS, Passage, best_fragments, marks_in, passages_of, tagged
from service.search.question import embedded
from tests.api_calls import Api
from tests.search_calls import Library, library
from tests.test_search_degraded import Down
from tests.test_search_reading import open_reader

TAGS = Tags("⟦", "⟧")
BEAR = "A bear growls. It chases a running man through the woods and into the river. Nobody was hurt."
# As ts_headline takes a question whose words are joined by OR.
ANY_WORD = "replace(plainto_tsquery($1::text::regconfig, $2)::text, ' & ', ' | ')::tsquery"
HEADLINE = f"""select ts_headline($1::text::regconfig, text, {ANY_WORD}, 'StartSel=⟦, StopSel=⟧, HighlightAll=true')
  from unnest($3::text[]) with ordinality as given(text, place) order by place"""  # noqa: S608  a constant
LEXEMES = "select tsvector_to_array(to_tsvector($1::text::regconfig, $2))"
# What parsers stumble over.
HOSTILE = (
    *(
        "bear",
        "bears",
        "BEARS",
        "Bär",
        "bear's",
        "bears'",
        "bear-trap",
        "e-mail",
        "trap",
        "self-made",
        "state-of-the-art",
    ),
    *("bear@example.com", "http://bear.example.com/trap?x=1", "bear.example.com/trap", "www.bear.com", "/usr/bear"),
    *("3.14", "-5", "2020-01-01", "1,000", "v1.2.3", "bear_trap", "C++", "bear—trap", "“bear”", "(bear)", "bear,trap"),
    *(
        "<b>bear</b>",
        '<a href="bear">',
        "</em>bear",
        "&amp;",
        "AT&T",
        "café",
        "cafe\u0301",
        "熊が怒る。熊",
        "हिन्दी",
        "x²",
    ),
    *(
        "\u200dbear",
        "bear\u00a0trap",
        "bear\u2028trap",
        "...",
        "?!",
        "--",
        "'",
        "''",
        "\\",
        "\\'",
        "{bear}",
        "$1",
        "%s",
    ),
    *(
        "🐻bear🐻",
        "bear/trap",
        "a/b/c",
        "İstanbul",
        "\u0131stanbul",
        "STRASSE",
        "straße",
        "\U0001d51f\U0001d522\U0001d51e",
    ),
)


@pytest.fixture(scope="module")
async def woods(api: Api, resources: Resources) -> Library:
    """English, but for what says otherwise."""
    return await library(
        api,
        resources,
        [
            {"external_id": "bear", "text": BEAR},
            {"external_id": "german", "language": "german", "text": "Die Häuser der Bären. The houses of the bears."},
            {"external_id": "title", "title": "Growling quietly", "text": "One thing. Another thing. " * 3},
            {"external_id": "untexted", "title": "Growling loudly", "text": ""},
            {"external_id": "hyphen", "text": "Send an e-mail by mail. A self-made man."},
        ],
    )


@pytest.fixture(scope="module", params=["psqlpy", "asyncpg"])
async def reading(woods: Library, resources: Resources, request: pytest.FixtureRequest) -> AsyncIterator[Library]:
    reader = open_reader(request.param, resources)
    yield woods.having(reader=reader)
    await reader.close()


async def lit(woods: Library, hits: Sequence[Hit], question: str, **fields: Any) -> list[Hit]:
    """These hits, highlighted for a question."""
    query = replace(woods.query(question, **fields), highlight=fields.get("highlight", TAGS))
    words = Words.parse(question)
    query, vector, _ = await embedded(query, words, woods.collection, tools=woods.tools)
    return list(await highlighted(tuple(hits), query, words, woods.collection, vector, tools=woods.tools))


async def light(woods: Library, question: str, **fields: Any) -> dict[str | None, tuple[str, ...] | None]:
    """The highlights of each document's best chunk, as a search for the question shows them."""
    found = (await woods.ask(question, **{"limit": 100, **fields, "highlight": None})).hits
    return {hit.external_id: hit.chunks[0].highlights for hit in await lit(woods, found, question, **fields)}


async def read(
    woods: Library, texts: Sequence[str], question: str, *, document: str = "bear", **fields: Any
) -> list[tuple[str, ...]]:
    """The highlights of these texts, as if they were chunks of a document."""
    hits = await lit(woods, await showing(woods, texts, document=document), question, **fields)
    return [chunk.highlights or () for hit in hits for chunk in hit.chunks]


async def showing(woods: Library, texts: Sequence[str], *, document: str = "bear") -> list[Hit]:
    hits = (await woods.ask("growls bears mail", mode="lexical", limit=100)).hits
    hit = next(hit for hit in hits if hit.external_id == document)
    chunks = [ChunkHit(str(new_id()), n, text, 1.0, 0, len(text), None) for n, text in enumerate(texts)]
    return [replace(hit, chunks=tuple(chunks[n : n + 10])) for n in range(0, len(chunks), 10)]


async def whole(woods: Library, texts: Sequence[str], question: str, *, document: str = "bear") -> list[str]:
    """Each text with all that is marked in it."""
    hits = await showing(woods, texts, document=document)
    marks = await found_marks(hits, woods.query(question), Words.parse(question), woods.collection, tools=woods.tools)
    words = marks.words.get(marks.languages[hits[0].document_id], {})
    return [tagged(text, Passage(0, len(text)), marks_in(text, words), TAGS) for text in texts]


def bare(fragment: str) -> str:
    return fragment.replace("⟦", "").replace("⟧", "")


def marked(fragment: str) -> list[str]:
    return [part.split("⟧")[0] for part in fragment.split("⟦")[1:]]


async def test_words_of_the_question_are_marked_in_whole_sentences_whatever_their_form(reading: Library) -> None:
    found = await light(reading, "Growling bears RUN", mode="lexical")

    assert found["bear"] == (
        "A ⟦bear⟧ ⟦growls⟧.",
        "It chases a ⟦running⟧ man through the woods and into the river.",
    )
    assert found["untexted"] == ("⟦Growling⟧ loudly",)


@pytest.mark.parametrize("mode", ["lexical", "semantic", "hybrid"])
async def test_every_mode_marks_the_words_that_occur(woods: Library, mode: str) -> None:
    found = await light(woods, "river", mode=mode)

    assert found["bear"] == ("It chases a running man through the woods and into the ⟦river⟧.",)


async def test_a_document_of_its_own_language_is_read_in_it(reading: Library) -> None:
    text = ["Bears bearing Häuser: Haus."]
    english = await read(reading, text, "bears haus", document="bear")
    german = await read(reading, text, "bears haus", document="german")

    assert english == [("⟦Bears⟧ ⟦bearing⟧ Häuser: ⟦Haus⟧.",)]
    assert german == [("⟦Bears⟧ bearing ⟦Häuser⟧: ⟦Haus⟧.",)]


async def test_stop_words_and_excluded_words_are_never_marked(woods: Library) -> None:
    text = ["The wolf and the bear, and the river into which it fell."]

    assert await read(woods, text, "the river and -wolf") == [
        ("The wolf and the bear, and the ⟦river⟧ into which it fell.",)
    ]


async def test_a_quoted_phrase_is_marked_word_by_word_wherever_its_words_occur(woods: Library) -> None:
    found = await light(woods, '"chases a running"')

    assert found == {"bear": ("It ⟦chases⟧ a ⟦running⟧ man through the woods and into the river.",)}


@pytest.mark.parametrize(
    ("text", "question", "expected"),
    [
        ("an e-mail.", "e-mail", "an ⟦e-mail⟧."),
        ("an e-mail.", "mail", "an e-⟦mail⟧."),
        ("mail and e-mail", "e-mail", "⟦mail⟧ and ⟦e-mail⟧"),
        ("a state-of-the-art e-mail", "state-of-the-art", "a ⟦state-of-the-art⟧ e-mail"),
        ("write to bear@example.com!", "bear@example.com", "write to ⟦bear@example.com⟧!"),
        ("see http://example.com/trap?x=1, or else", "example.com", "see http://⟦example.com⟧/trap?x=1, or else"),
        ("see http://example.com/trap", "http://example.com/trap", "see http://⟦example.com/trap⟧"),
        ("from 2020-01-01 (to 3.14)", "2020-01-01 3.14", "from ⟦2020-01-01⟧ (to ⟦3.14⟧)"),
        ("the café\u2019s “bear”", "café bears", "the ⟦café⟧\u2019s “⟦bear⟧”"),
        ("the cafe\u0301's bear", "cafe\u0301", "the ⟦cafe\u0301⟧'s bear"),
        ("bear,bear;bear—bear", "bear", "⟦bear⟧,⟦bear⟧;⟦bear⟧—⟦bear⟧"),
        ("O'Neil's rock'n'roll", "o'neil rock", "⟦O⟧'⟦Neil⟧'s ⟦rock⟧'n'roll"),
        ("a user_id of C++", "id c++", "a user_⟦id⟧ of ⟦C⟧++"),
        ("熊が怒る、機械学習。犬", "機械学習", "熊が怒る、⟦機械学習⟧。犬"),
        ("हिन्दी की किताब", "हिन्दी", "⟦हिन्दी⟧ की किताब"),
        ("a bear\u00a0trap\u2028bear\ttrap", "trap", "a bear\u00a0⟦trap⟧\u2028bear\t⟦trap⟧"),
        ("<b>bear</b> &amp; <em>trap</em>", "bear trap amp b", "<b>⟦bear⟧</b> &amp; <em>⟦trap⟧</em>"),
    ],
)
async def test_postgres_says_what_a_word_is(reading: Library, text: str, question: str, expected: str) -> None:
    assert await whole(reading, [text], question) == [expected]


async def test_a_word_inside_an_address_that_the_question_does_not_name_is_no_match(woods: Library) -> None:
    assert await whole(woods, ["bear@example.com example"], "example") == ["bear@example.com ⟦example⟧"]


async def test_the_sentence_with_the_most_and_rarest_words_comes_first(api: Api, resources: Resources) -> None:
    common = [{"text": f"Every bear has its day, number {n}."} for n in range(8)]
    text = (
        "The bear was seen on a day. Nobody knows. The bear met a heron on the moor. A day goes by. One more bear came."
    )
    zoo = await library(api, resources, [*common, {"external_id": "heron", "text": text}])

    assert (await light(zoo, "bear heron day"))["heron"] == (
        "The ⟦bear⟧ met a ⟦heron⟧ on the moor.",
        "The ⟦bear⟧ was seen on a ⟦day⟧.",
        "A ⟦day⟧ goes by.",
    )
    assert (await light(zoo, "heron bear bear"))["heron"] == (
        "The ⟦bear⟧ met a ⟦heron⟧ on the moor.",
        "The ⟦bear⟧ was seen on a day.",
        "One more ⟦bear⟧ came.",
    )


async def test_a_rare_word_outweighs_two_that_every_text_has(api: Api, resources: Resources) -> None:
    common = [{"text": f"A wolf and a bear, number {n}."} for n in range(30)]
    zoo = await library(
        api, resources, [*common, {"external_id": "rare", "text": "A wolf met a bear there. They saw one heron."}]
    )

    assert (await light(zoo, "bear wolf heron"))["rare"] == (
        "They saw one ⟦heron⟧.",
        "A ⟦wolf⟧ met a ⟦bear⟧ there.",
    )


async def test_a_word_that_is_not_shown_yet_comes_before_one_that_is(woods: Library) -> None:
    text = "The wolf met a heron there. A heron met the wolf again. In the morning it was gone."

    assert await read(woods, [text], "heron wolf morning") == [
        (
            "The ⟦wolf⟧ met a ⟦heron⟧ there.",
            "In the ⟦morning⟧ it was gone.",
            "A ⟦heron⟧ met the ⟦wolf⟧ again.",
        )
    ]


async def test_without_a_word_of_the_question_the_nearest_sentence_is_shown_without_tags(woods: Library) -> None:
    text = "Prices rose again. A growlbear growlbears. Snow fell on the hills."  # letters in common, no lexeme

    assert await read(woods, [text], "growlbearish", mode="semantic") == [("A growlbear growlbears.",)]
    assert await read(woods, [text], "growlbearish", mode="hybrid") == [("A growlbear growlbears.",)]


async def test_each_chunk_shows_its_own_nearest_sentence(woods: Library) -> None:
    texts = ["Prices rose again. A growlbear slept.", "Growlbears sleep. Snow fell on it. Nobody came.", "Nobody came."]

    found = await read(woods, texts, "growlbearish", mode="semantic")

    assert found == [("A growlbear slept.",), ("Growlbears sleep.",), ("Nobody came.",)]


async def test_a_vector_instead_of_words_finds_its_nearest_sentence(woods: Library) -> None:
    vector = (await HashingEmbedder().embed_passages(["Snow fell on the hills."]))[0]
    text = "Prices rose again. Nobody slept. Snow fell on the hills. It was late."

    assert await read(woods, [text], "", mode="semantic", vector=7 * vector) == [("Snow fell on the hills.",)]
    assert await read(woods, [text], "price", mode="semantic", vector=vector) == [("⟦Prices⟧ rose again.",)]


async def test_what_the_title_alone_says_is_shown_by_the_first_sentence_of_the_text(woods: Library) -> None:
    found = await light(woods, "growling", mode="lexical")

    assert found["title"] == ("One thing.",)


class Slow(HashingEmbedder):
    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        await asyncio.sleep(60)
        return await super().embed_passages(texts)


class Counting(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        self.calls.append(len(texts))
        return await super().embed_passages(texts)


@pytest.mark.parametrize(
    "embedder",
    [Down(UnavailableError("gone")), Down(OverloadedError("too much")), Slow()],
    ids=["gone", "busy", "slow"],
)
async def test_without_an_embedder_the_first_sentence_stands_in(woods: Library, embedder: HashingEmbedder) -> None:
    vector = (await HashingEmbedder().embed_passages(["Snow fell."]))[0]
    texts = ["Prices rose again. Snow fell.", "There was no river. A bear came. Snow fell on it."]

    found = await read(woods.having(embedder=embedder), texts, "bear", mode="semantic", vector=vector)

    assert found == [("Prices rose again.",), ("A ⟦bear⟧ came.",)]


async def test_sentences_are_compared_at_most_so_many_of_the_best_chunks_first_and_in_one_call(woods: Library) -> None:
    vector = (await HashingEmbedder().embed_passages(["Snow fell on the hills."]))[0]
    fields: dict[str, Any] = {"mode": "semantic", "vector": vector}
    counting = Counting()
    one = "Prices rose again. Snow fell on the hills. Nobody slept."
    many = "It was said again. " * 50

    found = await read(woods.having(embedder=counting), [one] * 30 + ["Alone here."], "", **fields)

    assert counting.calls == [60]
    # Four hits: ten chunks each, and the best of each hit first.
    best = [n for n, shown in enumerate(found) if shown == ("Snow fell on the hills.",)]
    assert best == [*range(7), *range(10, 17), *range(20, 26)]
    assert {shown for n, shown in enumerate(found) if n not in best} == {("Prices rose again.",), ("Alone here.",)}
    await read(woods.having(embedder=counting), [many, many, "Alone here."], "", **fields)
    assert counting.calls == [60, 50]
    await read(woods.having(embedder=counting), ["Alone here.", BEAR], "bear", **fields)
    assert counting.calls == [60, 50]


async def test_tags_are_the_clients_and_the_text_is_not_escaped(woods: Library) -> None:
    text = "Tom & <b>bear</b> \\1 {0} %s"

    assert await read(woods, [text], "bear", highlight=Tags()) == [("Tom & <b><em>bear</em></b> \\1 {0} %s",)]
    assert await read(woods, [text], "bear", highlight=Tags(r"\1{0}%s", "")) == [
        (r"Tom & <b>\1{0}%sbear</b> \1 {0} %s",)
    ]
    assert await read(woods, [text], "bear", highlight=Tags("", "")) == [(text,)]


async def test_both_drivers_mark_what_postgres_finds_in_hostile_texts(
    reading: Library, admin: asyncpg.Connection
) -> None:
    """Whatever stands in a text: without the tags a fragment is a part of it, and each mark is a lexeme of the question."""
    draw = Random(7)  # noqa: S311  not for secrets
    texts = ["".join(f"{draw.choice(HOSTILE)}{draw.choice('      .,!')} " for _ in range(60)) for _ in range(60)]
    questions = ["bear trap", "e-mail café 3.14", " ".join(HOSTILE).replace('"', " "), "' \\ & | ! () :* <->", "熊 भ"]
    for question in questions:
        asked = set(await admin.fetchval(LEXEMES, "english", Words.parse(question).text))
        found = await read(reading, texts, question, mode="lexical")
        assert len(found) == len(texts)
        for text, fragments in zip(texts, found, strict=True):
            assert 1 <= len(fragments) <= FRAGMENTS
            for fragment in fragments:
                assert bare(fragment) in text
                assert 0 < len(bare(fragment)) <= CHARACTERS
        for mark in {mark for fragments in found for fragment in fragments for mark in marked(fragment)}:
            assert asked & set(await admin.fetchval(LEXEMES, "english", mark)), (mark, question)


async def test_a_real_text_is_marked_as_ts_headline_would(
    reading: Library, admin: asyncpg.Connection, data: Path
) -> None:
    """Which marks no whole of several parts: boundary-layer."""
    folder = data / "cranfield"
    with gzip.open(folder / "corpus.jsonl.gz") as corpus, gzip.open(folder / "queries.jsonl.gz") as queries:
        texts = [text for line in corpus if (text := orjson.loads(line)["text"])][:300]
        questions = [orjson.loads(line)["text"] for line in queries][:10]

    for question in questions:
        rows = await admin.fetch(HEADLINE, "english", question, texts)
        expected = [row[0].replace("⟧-⟦", "-") for row in rows]
        found = [text.replace("⟧-⟦", "-") for text in await whole(reading, texts, question)]
        assert "".join(expected).count("⟦") > 100
        assert found == expected


async def test_a_real_page_has_its_highlights_in_its_texts(
    api: Api, resources: Resources, admin: asyncpg.Connection, data: Path
) -> None:
    with gzip.open(data / "cranfield" / "corpus.jsonl.gz") as corpus:
        rows = [orjson.loads(line) for line in corpus][:200]
    cranfield = await library(
        api, resources, [{"external_id": row["_id"], "title": row["title"], "text": row["text"]} for row in rows]
    )
    question = "boundary layers on heated wings -delta"
    asked = set(await admin.fetchval(LEXEMES, "english", "boundary layers on heated wings"))
    hits = (await cranfield.ask(question, limit=100)).hits

    lit_hits = await lit(cranfield, hits, question)

    assert len(lit_hits) == len(hits) > 50
    assert [replace(hit, chunks=()) for hit in lit_hits] == [replace(hit, chunks=()) for hit in hits]
    for chunk in (chunk for hit in lit_hits for chunk in hit.chunks):
        assert chunk.highlights
        said = set(await admin.fetchval(LEXEMES, "english", chunk.text))
        assert bool(asked & said) == ("⟦" in "".join(chunk.highlights))
        assert all(bare(fragment) in chunk.text for fragment in chunk.highlights)


async def test_a_foreign_collection_cannot_be_seen(reading: Library, other_api: Api, resources: Resources) -> None:
    other = await library(other_api, resources, [{"external_id": "bear", "text": BEAR}])
    foreign = replace(other.collection, tenant_id=reading.collection.tenant_id)
    hits = await showing(other, [BEAR])

    with pytest.raises(NotFoundError):
        await lit(replace(reading, collection=foreign), hits, "bear")


async def test_a_document_of_another_collection_says_nothing_about_itself(
    reading: Library, other_api: Api, resources: Resources
) -> None:
    other = await library(other_api, resources, [{"external_id": "bear", "text": BEAR, "language": "german"}])
    hits = await showing(other, [BEAR])

    marks = await found_marks(hits, reading.query("bear"), Words.parse("bear"), reading.collection, tools=reading.tools)

    assert (marks.languages, marks.words) == ({}, {})


async def test_a_page_of_documents_and_one_of_chunks_are_highlighted_alike(woods: Library) -> None:
    grouped = await light(woods, "mail")
    chunks = await light(woods, "mail", grouped=False)

    assert grouped["hyphen"] == chunks["hyphen"] == ("Send an e-⟦mail⟧ by ⟦mail⟧.",)


async def test_nothing_to_highlight_is_no_statement(woods: Library) -> None:
    assert await lit(woods, [], "bear") == []


async def test_a_text_of_nothing_has_no_highlight(woods: Library) -> None:
    assert await read(woods, ["", " \n ", "bear"], "bear") == [(), (), ("⟦bear⟧",)]


async def test_the_route_answers_with_highlights(api: Api, woods: Library) -> None:
    asked: dict[str, Any] = {"query": "river", "limit": 1, "mode": "lexical"}
    url = f"/v1/collections/{woods.collection.name}/search"

    bodies = [
        (await api.client.post(url, json={**asked, **fields})).json()["hits"][0]["chunks"][0].get("highlights")
        for fields in ({}, {"highlight": True}, {"highlight": {"pre_tag": "**", "post_tag": "**"}})
    ]

    sentence = "It chases a running man through the woods and into the {}river{}."
    assert bodies == [None, [sentence.format("<em>", "</em>")], [sentence.format("**", "**")]]


@given(st.text(alphabet=st.sampled_from("ab.!?。 \n\u00a0-,1Aé"), max_size=1_500))
def test_passages_are_short_and_in_order_and_leave_out_white_space_alone(text: str) -> None:
    passages = passages_of(text)

    assert "".join("".join(text[p.start : p.end] for p in passages).split()) == "".join(text.split())
    assert all(0 < p.end - p.start <= CHARACTERS for p in passages)
    assert all(text[p.start : p.end] == text[p.start : p.end].strip() for p in passages)
    assert all(one.end <= other.start for one, other in pairwise(passages))


def test_a_sentence_goes_on_after_initials_and_abbreviations_and_headings_join_it() -> None:
    text = "Results\n\nAs Smith et al. (2010) show in Fig. 3 it is so. See J. Smith too. 熊が怒る。熊は走る。熊は大きくて強い。"

    assert [text[p.start : p.end] for p in passages_of(text)] == [
        "Results\n\nAs Smith et al. (2010) show in Fig. 3 it is so.",
        "See J. Smith too.",
        "熊が怒る。熊は走る。熊は大きくて強い。",
    ]


def test_a_word_longer_than_a_passage_is_marked_as_far_as_it_goes() -> None:
    text = "x" * 700
    mark = Mark(0, 700, frozenset({text}))

    fragments = best_fragments(text, [mark], {text: 1.0}, TAGS)

    assert len(fragments) == FRAGMENTS
    assert all(fragment == f"⟦{bare(fragment)}⟧" and len(bare(fragment)) <= CHARACTERS for fragment in fragments)
