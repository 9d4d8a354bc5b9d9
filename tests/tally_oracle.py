"""Facets and counts, recounted from the contract's words alone, over documents as a test sent them; no SQL."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.filter_oracle import MISSING, find, is_number

MOST = 100

Valued = tuple[int, Any]


@dataclass(frozen=True)
class Seen:
    """A document, and the words of its title and of each of its chunks."""

    fields: Mapping[str, Any]
    title: Sequence[str]
    chunks: Mapping[UUID, Sequence[str]]


@dataclass(frozen=True)
class Asked:
    """What a chunk must say: one of the words, where there are any; all phrases; nothing that is excluded."""

    words: Sequence[str] = ()
    phrases: Sequence[str] = ()
    excluded: Sequence[str] = ()

    def said_by(self, title: Sequence[str], text: Sequence[str]) -> bool:
        has = {*title, *text}
        return (
            (not self.words or not has.isdisjoint(self.words))
            and all(says(title, phrase) or says(text, phrase) for phrase in self.phrases)
            and not any(says(title, phrase) or says(text, phrase) for phrase in self.excluded)
        )


def says(words: Sequence[str], phrase: str) -> bool:
    return f" {phrase} " in f" {' '.join(words)} "


def about(documents: Iterable[Seen], asked: Asked) -> list[Seen]:
    """Those with a chunk that says what is asked."""
    return [seen for seen in documents if any(asked.said_by(seen.title, text) for text in seen.chunks.values())]


def facet(documents: Iterable[Seen], key: str) -> list[tuple[Valued, int]]:
    """Most frequent first, then strings by code point, numbers, false and true."""
    counts: Counter[Valued] = Counter()
    for seen in documents:
        counts.update(set(values(find(key, seen.fields))))
    return sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))[:MOST]


def values(stored: Any) -> list[Valued]:
    """Strings, numbers and booleans, of a list each; so that 2020 and 2020.0 are one and 1 and true are two."""
    if stored is MISSING:
        return []
    return [valued(each) for each in (stored if isinstance(stored, list) else [stored]) if is_value(each)]


def is_value(value: Any) -> bool:
    return isinstance(value, str | bool) or is_number(value)


def valued(value: Any) -> Valued:
    if isinstance(value, str):
        return 0, value
    return (2, value) if isinstance(value, bool) else (1, Decimal(str(value)))
