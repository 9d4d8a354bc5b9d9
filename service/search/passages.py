"""The parts of a chunk's text that a hit may show: whole sentences, and what of them is marked."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from service.db.marks import Mark
from service.domain.queries import Tags
from service.domain.sentences import LONGEST, units_of

CHARACTERS = 300  # A longer sentence is cut, where a line or a clause ends if it can be: two lines of a page of hits.
CRUMB = 10  # What is shorter ("2.", "Results") says nothing alone: it joins what follows.
FRAGMENTS = 3

_WORD = re.compile(r"\S+")
# After these a sentence goes on, whatever the splitter thinks: initials, "Fig. 2", "et al. (1962)".
_GOES_ON = re.compile(
    r"(?<!\w)(?:\w|al|ca|cf|e\.g|i\.e|vs|approx|(?:Dr|Mr|Mrs|Ms|Prof|St|Nr|Abb|[Ee]q|[Ff]ig|[Nn]o|[Pp]p|[Rr]ef|[Ss]ec|[Vv]ol)s?)\.$"
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A range of the text that starts and ends with no white space."""

    start: int
    end: int


def passages_of(text: str) -> list[Passage]:
    """The sentences of a text in their order, long ones cut and short ones joined. All of the text but white space is in one."""

    def weigh(start: int, end: int) -> tuple[int, float]:
        return 0, LONGEST * (end - start) / CHARACTERS

    joined: list[Passage] = []
    units = units_of(0, len(text), text=text, weigh=weigh)
    pieces = [piece for piece in (trimmed(text, unit.start, unit.end) for unit in units) if piece.start < piece.end]
    for place, piece in enumerate(pieces, start=1):
        last = joined[-1] if joined else None
        left_over = place == len(pieces) and is_crumb(piece)
        if last and piece.end - last.start <= CHARACTERS and (left_over or goes_on(text, last)):
            joined[-1] = Passage(last.start, piece.end)
        else:
            joined.append(piece)
    return joined


def trimmed(text: str, start: int, end: int) -> Passage:
    piece = text[start:end]
    return Passage(start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))


def is_crumb(passage: Passage) -> bool:
    return passage.end - passage.start < CRUMB


def goes_on(text: str, passage: Passage) -> bool:
    return is_crumb(passage) or _GOES_ON.search(text, passage.start, passage.end) is not None


def marks_in(text: str, words: Mapping[str, Sequence[Mark]]) -> list[Mark]:
    """What of the text matches, in its order, given the words that do. A word is what stands between white space."""
    if words.keys().isdisjoint(text.split()):
        return []
    return [
        Mark(found.start() + mark.start, found.start() + mark.end, mark.lexemes)
        for found in _WORD.finditer(text)
        for mark in words.get(found[0], ())
    ]


def best_fragments(text: str, marks: Sequence[Mark], weights: Mapping[str, float], tags: Tags) -> tuple[str, ...]:
    """At most `FRAGMENTS` passages with a mark, best first.

    The next is always the one whose lexemes no better one has shown yet weigh most, then the one whose lexemes do.
    """
    inside = [(passage, list(within(passage, marks))) for passage in passages_of(text)]
    left = [(passage, found) for passage, found in inside if found]
    shown: set[str] = set()
    fragments: list[str] = []

    def worth(candidate: tuple[Passage, list[Mark]]) -> tuple[float, float, int]:
        said = set(chain.from_iterable(mark.lexemes for mark in candidate[1]))
        return weight(said - shown), weight(said), len(candidate[1])

    def weight(lexemes: set[str]) -> float:
        return math.fsum(weights[lexeme] for lexeme in lexemes)

    while left and len(fragments) < FRAGMENTS:
        best = max(left, key=worth)
        left.remove(best)
        shown.update(*(mark.lexemes for mark in best[1]))
        fragments.append(tagged(text, *best, tags))
    return tuple(fragments)


def within(passage: Passage, marks: Sequence[Mark]) -> Iterator[Mark]:
    """The marks in a passage, clipped to it: only a word of hundreds of letters reaches over its end."""
    for mark in marks:
        start, end = max(mark.start, passage.start), min(mark.end, passage.end)
        if start < end:
            yield Mark(start, end, mark.lexemes)


def tagged(text: str, passage: Passage, marks: Sequence[Mark], tags: Tags) -> str:
    """The passage with its marks between tags; marks that touch are one."""
    spans: list[tuple[int, int]] = []
    for mark in marks:
        if spans and spans[-1][1] == mark.start:
            spans[-1] = spans[-1][0], mark.end
        else:
            spans.append((mark.start, mark.end))
    parts: list[str] = []
    at = passage.start
    for start, end in spans:
        parts += [text[at:start], tags.pre, text[start:end], tags.post]
        at = end
    return "".join([*parts, text[at : passage.end]])
