"""Texts become chunks: whole where they fit, else full pieces that end where a paragraph or a sentence does."""

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol

from service.domain.sentences import Unit, units_of
from service.domain.texts import ChunkText, ExtractedText

HARD_CHARACTERS = (
    2_000  # A word of a megabyte is a single token to a wordpiece tokenizer; rows and hits must stay small.
)
_WORD_SLACK = 1.2  # Two chunks of 200 words serve better than three of 133.
# What is left at least for the last piece, of a chunk's room: docs/decisions/0005-extraction.md has what else was tried.
_LAST = 0.5
_SPECIAL_TOKENS = 2  # Of a BERT-like embedder, in every count; a wordpiece takes at least one byte.
_LIKELY_CHARACTERS = 4  # A token, in English: what is shorter than so many of them most likely fits.
_SPACE = re.compile(r"\s")
_BLOCK = 50_000  # Characters tokenised at once: the tokenizer's own objects take some hundred bytes a token.
_CRUMB_WORDS = 12  # A page with less (its number, a heading) joins its neighbour: alone it would be found for nothing.


class Tokens(Protocol):
    """What an embedder knows of a text before it computes anything."""

    @property
    def max_tokens(self) -> int: ...

    def count_tokens(self, text: str) -> int: ...

    def token_starts(self, text: str) -> Sequence[int]: ...


def split_into_chunks(
    extracted: ExtractedText, *, title: str | None, tokens: Tokens, words: int = 180
) -> list[ChunkText]:
    """Split so that each chunk, with its fitted title in the line before, takes at most `tokens.max_tokens`, special ones included.

    Every character that is no white space lies in exactly one chunk. A text that fits stays whole; a longer one becomes
    the fewest pieces of about `words` words, full as far as its sentences allow, the last at least half. No chunk spans
    two pages, so that a citation names the page its words are on, except that a page of a few words joins its neighbour.
    """
    prefix = fit_title(title, count_tokens=tokens.count_tokens, max_tokens=tokens.max_tokens)
    prefix = prefix + "\n" if prefix else ""
    measure = _Measure(extracted.text, prefix, tokens, words)
    starts = [page.char_start for page in extracted.pages]
    chunks: list[ChunkText] = []
    for start, end in _sections(extracted):
        for piece_start, piece_end in _pieces(start, end, measure):
            page = bisect_right(starts, piece_start) if starts else 0
            number = extracted.pages[max(page - 1, 0)].number if starts else None
            text = extracted.text[piece_start:piece_end]
            chunks.append(ChunkText(len(chunks), text, piece_start, piece_end, number))
    return chunks


def fit_title(title: str | None, *, count_tokens: Callable[[str], int], max_tokens: int = 256) -> str:
    """The part of a title that goes before every chunk: all of it, or as many words as take half of `max_tokens`."""
    words = (title or "").split()
    half = max_tokens // 2
    whole = " ".join(words)
    if len(whole.encode()) + _SPECIAL_TOKENS <= half or (len(whole) <= HARD_CHARACTERS and count_tokens(whole) <= half):
        return whole
    whole = whole[:HARD_CHARACTERS]
    fits, too_long = 0, len(whole) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count_tokens(whole[:middle]) <= half:
            fits = middle
        else:
            too_long = middle
    kept = whole[:fits]
    return kept[: kept.rfind(" ")] if " " in kept and fits < len(whole) else kept


class _Measure:
    """How much of a chunk's room a range of the text takes. Its tokens are found once, their exact sum only where it matters."""

    def __init__(self, text: str, prefix: str, tokens: Tokens, words: int) -> None:
        self.text = text
        self._prefix = prefix
        self._tokens = tokens
        self._max_tokens = tokens.max_tokens
        self._words = words * _WORD_SLACK
        self._starts = array("L")

    @cached_property
    def _room(self) -> int:
        return max(self._max_tokens - self._tokens.count_tokens(self._prefix), 1)

    def read(self, start: int, end: int) -> None:
        """Find the tokens of a range, a block at a time; `weigh` is of ranges within the last one."""
        self._starts = array("L")
        while start < end:
            cut = end if end - start <= _BLOCK else _block_end(self.text, start + _BLOCK)
            self._starts.extend(start + at for at in self._tokens.token_starts(self.text[start:cut]))
            start = cut

    def is_small(self, start: int, end: int) -> bool:
        """Whether the range is a chunk for sure, seen without counting tokens."""
        embedded = self._prefix + self.text[start : min(end, start + HARD_CHARACTERS)]
        small = len(embedded.encode("utf-8", "replace")) + _SPECIAL_TOKENS <= self._max_tokens
        return small and end - start <= HARD_CHARACTERS

    def is_whole(self, start: int, end: int) -> bool:
        """Whether the range is a chunk, by the very text that is embedded: an embedder that has just counted its tokens need
        not find them again. Not asked of what is most likely too long.
        """
        likely = end - start <= min(HARD_CHARACTERS, _LIKELY_CHARACTERS * self._max_tokens)
        return likely and self._tokens.count_tokens(self._prefix + self.text[start:end]) <= self._max_tokens

    def weigh(self, start: int, end: int) -> tuple[int, float]:
        """Tokens of the range, and its share of a chunk's room: 1.0 fills it, by tokens, words or characters."""
        by_characters = (end - start) / HARD_CHARACTERS
        if by_characters > 1:
            return end - start, by_characters  # Too long anyway: no need to count.
        tokens = bisect_left(self._starts, end) - bisect_left(self._starts, start)
        words = len(self.text[start:end].split())
        return tokens, max(tokens / self._room, words / self._words, by_characters)

    def fits(self, units: Sequence[Unit]) -> bool:
        """Whether these neighbours can be one chunk. Tokens add up where texts are cut at white space, give or take one
        at each end; only a sum closer to the limit than that, or a word cut in two, is counted again.
        """
        start, end = _trimmed(self.text, units[0].start, units[-1].end)
        if end - start > HARD_CHARACTERS:
            return False
        spare = self._room - sum(unit.tokens for unit in units)
        doubt = 2 * len(units)
        if abs(spare) > doubt and not any(unit.is_in_word for unit in units):
            return spare > 0
        return self._tokens.count_tokens(self._prefix + self.text[start:end]) <= self._max_tokens


def _sections(extracted: ExtractedText) -> Iterator[tuple[int, int]]:
    """Ranges that no chunk crosses: pages, with those of a few words joined to the next (at the end: the previous)."""
    if not extracted.pages:
        yield 0, len(extracted.text)
        return
    sections: list[tuple[int, int]] = []
    crumb_start: int | None = None
    for page in extracted.pages:
        start = page.char_start if crumb_start is None else crumb_start
        if len(extracted.text[start : page.char_end].split()) < _CRUMB_WORDS:
            crumb_start = start
            continue
        sections.append((start, page.char_end))
        crumb_start = None
    if crumb_start is not None:
        start = sections.pop()[0] if sections else crumb_start
        sections.append((start, extracted.pages[-1].char_end))
    yield from sections


def _pieces(start: int, end: int, measure: _Measure) -> Iterator[tuple[int, int]]:
    start, end = _trimmed(measure.text, start, end)
    if start == end:
        return
    if measure.is_small(start, end) or measure.is_whole(start, end):
        yield start, end
        return
    measure.read(start, end)
    units = list(units_of(start, end, text=measure.text, weigh=measure.weigh))
    if measure.fits(units):
        yield start, end
        return
    first = 0
    remaining = math.fsum(unit.share for unit in units)
    while first < len(units):
        last, denser = _best_end(units, first, remaining), 1.0
        while last > first and not measure.fits(units[first : last + 1]):
            denser *= 1.1
            last = min(_best_end(units, first, remaining, scale=denser), last)
        piece = units[first : last + 1]
        remaining -= math.fsum(unit.share for unit in piece)
        first = last + 1
        piece_start, piece_end = _trimmed(measure.text, piece[0].start, piece[-1].end)
        if piece_start < piece_end:
            yield piece_start, piece_end


def _best_end(units: list[Unit], first: int, remaining: float, *, scale: float = 1.0) -> int:
    """The unit with which a piece should end: full, and yet half a room is left for the last."""
    if remaining * scale <= 1 + 1e-9:
        return len(units) - 1
    target = min(1.0, remaining * scale - _LAST)
    best, best_cost, filled = first, math.inf, 0.0
    for index in range(first, len(units)):
        filled += units[index].share * scale
        if filled > 1 and index > first:
            break
        cost = abs(filled - target) / target + units[index].break_cost
        if cost <= best_cost:
            best, best_cost = index, cost
    return best


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, max(start, start + len(piece.strip()))


def _block_end(text: str, place: int) -> int:
    """The next white space, or the place itself where a word goes on for long: a token more, and nothing worse."""
    found = _SPACE.search(text, place, place + HARD_CHARACTERS)
    return found.start() if found else place
