"""Where a text may be cut: after paragraphs, after sentences, and, inside what is too long, between words or letters."""

# ruff: noqa: RUF001 (the punctuation of many scripts is the subject here)

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# What it costs to end a piece there, beside the room that it leaves empty: a paragraph's end is worth a third of it.
_PARAGRAPH, _SENTENCE, _LINE, _WORD, _LETTER = 0.0, 0.35, 0.45, 0.6, 1.0
LONGEST = 0.125  # Of the room: units beyond it are cut, so that pieces can be filled where no sentence ends.

# A sentence ends at .!? before white space and no small letter, at their CJK kin anywhere; a paragraph at an empty line.
# The look-behind and the possessive quantifiers keep a megabyte of dots linear.
_ENDS = re.compile(
    r"(?P<paragraph>\n[^\S\n]*+\n\s*+)"
    r"|(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s)(?!\s++[a-z])(?![^\S\n]*+\n[^\S\n]*+\n)\s++"
    r"|(?<![。！？｡])[。！？｡]++[」』）”’]*+(?![^\S\n]*+\n[^\S\n]*+\n)\s*+"
)
_CUTS = (
    (re.compile(r"\n\s*"), _LINE),
    (re.compile(r"[;:,،、，；](?!\d)[^\S\n]*"), _WORD),
    (re.compile(r"\s+"), _WORD),
)


@dataclass(frozen=True)
class Unit:
    """A range that stays together, the white space behind it included. `break_cost` is what a cut after it costs."""

    start: int
    end: int
    tokens: int
    share: float
    break_cost: float

    @property
    def is_in_word(self) -> bool:
        """Whether the cut after it goes through a word, so that its tokens do not add up with its neighbour's."""
        return self.break_cost == _LETTER


def units_of(start: int, end: int, *, text: str, weigh: Callable[[int, int], tuple[int, float]]) -> Iterator[Unit]:
    """Cover `text[start:end]` without gaps; `weigh` tells tokens and share of a range."""
    for unit_start, unit_end, break_cost in _sentences(text, start, end):
        stack = [(unit_start, unit_end, break_cost)]
        while stack:
            left, right, cost = stack.pop()
            tokens, share = weigh(left, right)
            if share <= LONGEST or right - left == 1:
                yield Unit(left, right, tokens, share, cost)
                continue
            middle, inner_cost = _middle(text, left, right)
            stack.append((middle, right, cost))
            stack.append((left, middle, inner_cost))


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int, float]]:
    position = start
    for found in _ENDS.finditer(text, start, end):
        if found.end() > position:
            yield position, found.end(), _PARAGRAPH if found.group("paragraph") else _SENTENCE
            position = found.end()
    if position < end:
        yield position, end, _PARAGRAPH


def _middle(text: str, left: int, right: int) -> tuple[int, float]:
    """The best place to cut in the middle half of a range: at a line end, at a comma, at a space, or between letters."""
    middle = (left + right) // 2
    quarter = min((right - left) // 4, 1_000)
    for pattern, cost in _CUTS:
        ends = (found.end() for found in pattern.finditer(text, max(middle - quarter, left), middle + quarter))
        places = [place for place in ends if left < place < right]
        if places:
            return min(places, key=lambda place: abs(place - middle)), cost
    place = middle
    while place < right - 1 and place - middle < quarter and unicodedata.category(text[place]).startswith("M"):
        place += 1  # A letter keeps its accents and vowel signs.
    return max(place, left + 1), _LETTER
