"""Texts that are made up: many different words, a few of them frequent, the same in every run."""

import random

from service.cli.client import Json

SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mu", "ne", "pa", "ri", "so", "tu", "ve", "wi", "xa", "yo")
VOCABULARY = 20_000


def made_up_documents(count: int, *, words: int = 120, seed: int = 7) -> list[Json]:
    """Return documents of about `words` words whose frequencies fall as 1/rank, as those of a language do."""
    chance = random.Random(seed)  # noqa: S311  (repeatable, not secret)
    return [
        {"external_id": f"made-up-{number}", "title": _text(chance, 6), "text": _text(chance, words)}
        for number in range(count)
    ]


def _text(chance: random.Random, words: int) -> str:
    return " ".join(_word(int(VOCABULARY ** chance.random())) for _ in range(words)) + "."


def _word(rank: int) -> str:
    word = ""
    while rank or not word:
        rank, syllable = divmod(rank, len(SYLLABLES))
        word += SYLLABLES[syllable]
    return word
