"""The part of a passage that a reader wants to see, with the words of the query marked in it.

Roughly what the service matched: it stems words by the rules of the collection's language, this by those of English.
"""

import re
from collections.abc import Sequence

from rich.text import Text

WORD = re.compile(r"[^\W_]+")  # Postgres ends a word at an underscore too.
EXCLUDED = re.compile(r"(?<!\S)-[^\W\d_]\w*")  # The contract: a minus after white space, directly before a letter.
STOPPED = (
    "a about after all an and any are as at be been before but by can could did do does for from had has have how i if in "
    "into is it its just me more my no nor not of on one only or our out over own same should so some such than that the "
    "their them then there these they this those through to too under until up was we were what when where which while "
    "who whom why will with would you your"
)
STOP_WORDS = frozenset(STOPPED.split())
ENDING = re.compile(r"(?:ations?|ings?|ions?|ers?|ors?|ie[sd]|e[sd]|ly|(?<!s)s|[ey])$")
SHORTEST_STEM = 3
PASSAGE = 280  # Characters: three lines of a terminal.

Span = tuple[int, int]


def stem(word: str) -> str:
    """What forms of a word have in common: running, runs, run."""
    word = word.casefold()
    cut = ENDING.search(word, SHORTEST_STEM)
    if cut is None:
        return word
    shorter = word[: cut.start()]
    return shorter[:-1] if shorter[-2:-1] == shorter[-1] and shorter[-1] not in "lsz" else shorter


def find_marks(text: str, query: str) -> list[Span]:
    """Where the text has a form of a word that the query asks for."""
    asked = {word.casefold() for word in WORD.findall(EXCLUDED.sub(" ", query))} - STOP_WORDS
    stems = {stem(word) for word in asked}
    return [match.span() for match in WORD.finditer(text) if stem(match[0]) in stems]


def mark(text: str, query: str, *, style: str | None) -> Text:
    """The text with its marks in a style, or between asterisks where nothing has one."""
    marks = find_marks(text, query)
    if style is None:
        for begin, end in reversed(marks):
            text = f"{text[:begin]}*{text[begin:end]}*{text[end:]}"
        return Text(text)
    marked = Text(text)
    for begin, end in marks:
        marked.stylize(style, begin, end)
    return marked


def passage(text: str, query: str, *, length: int = PASSAGE) -> str:
    """About `length` characters of a chunk, from where most different words of the query are; its start if none is."""
    if len(text) <= length:
        return text
    begin = _densest(text, find_marks(text, query), length)
    end = min(begin + length, len(text))
    if begin > 0:
        begin = text.find(" ", begin - 1) + 1 or begin
    if end < len(text):
        end = max(text.rfind(" ", begin, end), begin + 1)
    return f"{'… ' if begin else ''}{text[begin:end]}{' …' if end < len(text) else ''}"


def _densest(text: str, marks: Sequence[Span], length: int) -> int:
    """Where to begin so that most is seen: different words first, then their number; a little before the first."""
    lead = length // 5

    def seen(begin: int) -> tuple[int, int]:
        words = [stem(text[a:b]) for a, b in marks if begin <= a and b <= begin + length]
        return len(set(words)), len(words)

    begins = [0, *(max(0, a - lead) for a, _ in marks)]
    best = max(begins, key=seen)  # The first of equals.
    return min(best, len(text) - length)
