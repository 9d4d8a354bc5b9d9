"""Chunking: nothing lost, nothing over the limits, and cuts where a reader would make them."""

import csv
import os
import re
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.texts import ChunkText, ExtractedText, PageSpan
from service.ingest.chunk import HARD_CHARACTERS, fit_title, split_into_chunks

DATA = Path(os.environ.get("DATA", Path(__file__).parents[2] / "shared" / "data"))
SENTENCE = "The quick brown fox number {} jumps over the lazy dog near the river bank. "


@dataclass(frozen=True)
class Tokens:
    """A tokenizer for tests: one token for each match and each `long` letters of it, and two special ones."""

    pattern: str
    long: int = 1_000_000
    max_tokens: int = 256

    def token_starts(self, text: str) -> list[int]:
        found = re.finditer(self.pattern, text, re.DOTALL)
        return [start for match in found for start in range(match.start(), match.end(), self.long)]

    def count_tokens(self, text: str) -> int:
        return 2 + len(self.token_starts(text))


class Bytes(Tokens):
    def token_starts(self, text: str) -> list[int]:
        return [at for at, letter in enumerate(text) for _ in letter.encode("utf-8", "replace")]


class Runs(Tokens):
    """Takes one more for two neighbours together than for each by itself, as byte-pair tokenizers may."""

    def count_tokens(self, text: str) -> int:
        return super().count_tokens(text.strip())


WORDS, BYTES, RUNS = Tokens(r"\w+|[^\w\s]", long=10), Bytes(""), Runs(r"\S+|\s+")


def split(
    text: str, *, title: str | None = None, pages: tuple[PageSpan, ...] = (), tokens: Tokens = WORDS
) -> list[ChunkText]:
    return split_into_chunks(ExtractedText(text, "text/plain", pages), title=title, tokens=tokens)


def prose(sentences: int) -> str:
    return "".join(SENTENCE.format(number) for number in range(sentences)).strip()


def paged(*texts: str) -> tuple[str, tuple[PageSpan, ...]]:
    spans, position = [], 0
    for number, text in enumerate(texts, 1):
        spans.append(PageSpan(number, position, position + len(text)))
        position += len(text) + 2
    return "\n\n".join(texts), tuple(spans)


def assert_sound(chunks: list[ChunkText], text: str, *, title: str | None = None, tokens: Tokens = WORDS) -> None:
    prefix = fit_title(title, count_tokens=tokens.count_tokens, max_tokens=tokens.max_tokens)
    left = text
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text == text[chunk.char_start : chunk.char_end] == chunk.text.strip() != ""
        assert len(chunk.text) <= HARD_CHARACTERS
        embedded = f"{prefix}\n{chunk.text}" if prefix else chunk.text
        assert tokens.count_tokens(embedded) <= tokens.max_tokens
        left = left[: chunk.char_start] + " " * len(chunk.text) + left[chunk.char_end :]
    assert not left.strip(), "every character that is no white space lies in a chunk"
    assert all(a.char_end <= b.char_start for a, b in pairwise(chunks)), "in order, and in one only"


SCRAPS = st.sampled_from(
    [
        "word",
        "Another",
        "x" * 300,
        "end.",
        "So? ",
        "\n",
        "\n\n",
        " ",
        "  ",
        "สงครามอังกฤษ",
        "吾輩は猫である。",
        "a\u0301",
        "…",
        "1,000",
        "\t",
        "😀",
        "\x1c",
        "''",
    ]
)
TEXTS = st.lists(st.one_of(SCRAPS, st.text(max_size=8)), max_size=400).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    text=TEXTS,
    title=st.one_of(st.none(), st.text(max_size=60)),
    tokens=st.sampled_from([WORDS, BYTES, RUNS]),
    max_tokens=st.integers(40, 256),
    cuts=st.lists(st.integers(0, 2_000), max_size=4),
)
def test_whatever_the_text_all_of_it_is_in_chunks_within_the_limits(
    text: str, title: str | None, tokens: Tokens, max_tokens: int, cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pages = tuple(PageSpan(n, a, b) for n, (a, b) in enumerate(pairwise(edges), 1)) if cuts else ()

    tokens = replace(tokens, max_tokens=max_tokens)

    chunks = split(text, title=title, pages=pages, tokens=tokens)

    assert_sound(chunks, text, title=title, tokens=tokens)


def test_a_text_without_words_has_no_chunk() -> None:
    assert split("") == split(" \n\t ") == []


def test_a_text_that_fits_stays_whole() -> None:
    text = " ".join(["word"] * 250)

    assert [chunk.text for chunk in split(text)] == [text]


def test_one_token_more_than_fits_leaves_half_a_room_for_the_last_piece() -> None:
    text = prose(16) + " And one more."
    assert 256 < WORDS.count_tokens(text) < 290

    chunks = split(text)

    sizes = [len(chunk.text.split()) for chunk in chunks]
    assert len(sizes) == 2
    assert sizes[0] >= 120
    assert sizes[1] >= 90


def test_pieces_end_with_sentences_and_leave_no_crumb() -> None:
    chunks = split(prose(101))

    assert all(chunk.text.endswith("bank.") for chunk in chunks)
    sizes = [len(chunk.text.split()) for chunk in chunks]
    assert all(150 <= size <= 216 for size in sizes[:-1])
    assert sizes[-1] >= 40


def test_a_paragraph_end_is_preferred_to_a_sentence_end() -> None:
    chunks = split(prose(9) + "\n\n" + prose(14))

    assert chunks[0].text == prose(9)


@pytest.mark.parametrize(
    "text", ["สงครามอังกฤษแซนซิบาร์" * 500, "吾輩は猫である。名前はまだ無い。" * 500, "0123456789abcdef" * 4_000]
)
def test_text_without_spaces_is_cut_too(text: str) -> None:
    chunks = split(text)

    assert_sound(chunks, text)
    assert "".join(chunk.text for chunk in chunks) == text


def test_a_word_that_is_one_token_is_cut_by_characters() -> None:
    text = "x" * 5_000

    chunks = split(text, tokens=RUNS)

    assert_sound(chunks, text, tokens=RUNS)


def test_japanese_ends_with_its_sentences() -> None:
    chunks = split("吾輩は猫である。名前はまだ無い。" * 50, tokens=BYTES)

    assert all(chunk.text.endswith("。") for chunk in chunks)


def test_a_letter_keeps_its_marks() -> None:
    text = "e\u0301" * 3_000

    assert all(not chunk.text.startswith("\u0301") for chunk in split(text))


def test_every_chunk_leaves_room_for_the_title() -> None:
    title = "A title of seven words and more"
    text = prose(60)

    assert_sound(split(text, title=title), text, title=title)


def test_tokens_that_do_not_add_up_are_counted_again() -> None:
    text = "Go on. " * 300

    chunks = split(text, tokens=RUNS)

    assert_sound(chunks, text, tokens=RUNS)


def test_a_title_takes_half_at_most() -> None:
    title = " ".join(f"word{number}" for number in range(1_000))

    fitted = fit_title(title, count_tokens=WORDS.count_tokens, max_tokens=256)

    assert 120 <= WORDS.count_tokens(fitted) <= 128
    assert title.startswith(fitted + " ")
    assert fit_title("Short  title ", count_tokens=WORDS.count_tokens) == "Short title"
    assert_sound(split(prose(60), title=title), prose(60), title=title)


def test_a_chunk_names_the_page_its_words_are_on() -> None:
    text, pages = paged(prose(10), prose(24), prose(12))

    chunks = split(text, pages=pages)

    assert [chunk.page for chunk in chunks] == [1, 2, 2, 3]
    for chunk in chunks:
        assert chunk.page is not None
        page = pages[chunk.page - 1]
        assert page.char_start <= chunk.char_start < chunk.char_end <= page.char_end


def test_a_page_of_a_few_words_joins_its_neighbour() -> None:
    text, pages = paged("", "Part One", prose(10), prose(5), "42")

    chunks = split(text, pages=pages)

    assert [chunk.page for chunk in chunks] == [2, 4]
    assert chunks[0].text == "Part One\n\n" + prose(10)
    assert chunks[1].text == prose(5) + "\n\n42"


def test_text_without_pages_has_no_page() -> None:
    assert split("Some words")[0].page is None


@pytest.mark.parametrize(
    "text", ["." * 60_000, '."' * 30_000, "\n " * 30_000 + "x", "a" + " " * 60_000 + "b", "a, " * 20_000]
)
def test_hostile_repetition_takes_linear_time(text: str) -> None:
    began = time.process_time()

    chunks = split(text)

    assert time.process_time() - began < 2, "it takes .1 s; quadratic searching takes half a minute"
    assert chunks[0].char_start == len(text) - len(text.lstrip())
    assert chunks[-1].char_end == len(text.rstrip())


class Watched(Tokens):
    def __init__(self) -> None:
        super().__init__(WORDS.pattern)
        object.__setattr__(self, "read", [])

    read: list[str]

    def token_starts(self, text: str) -> list[int]:
        self.read.append(text)
        return super().token_starts(text)


def test_a_short_text_is_not_tokenised() -> None:
    tokens = Watched()

    split("A few words of text.", title="A title", tokens=tokens)

    assert not tokens.read


def test_a_long_text_is_tokenised_once_in_blocks_that_end_at_white_space() -> None:
    tokens, text = Watched(), prose(3_000)

    split(text, tokens=tokens)

    blocks = [read for read in tokens.read if len(read) > HARD_CHARACTERS]
    assert "".join(blocks) == text
    assert len(blocks) > 3
    assert all(block.startswith(" ") for block in blocks[1:])


@pytest.mark.skipif(
    not (DATA / "files").exists(),
    reason="the folder that DATA names has no files/; add it with: DATA=/folder/of/data make test",
)
def test_real_texts_in_nine_languages_are_covered() -> None:
    with (DATA / "files" / "MANIFEST.tsv").open(encoding="utf-8") as stream:
        paths = [row["path"] for row in csv.DictReader(stream, delimiter="\t") if row["path"].startswith("text/lang_")]
    for path in paths:
        text = (DATA / "files" / path).read_text(encoding="utf-8")
        assert_sound(split(text), text)
    assert paths
