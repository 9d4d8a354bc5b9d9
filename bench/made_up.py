"""Texts that are made up: Zipf's frequencies, topics that prefer their own words, the same for a seed at any time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench.pieces import LEAST_WORDS, MOST_WORDS, Piece

SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mu", "ne", "pa", "ri", "so", "tu", "ve", "wi", "xa", "yo")
VOCABULARY = 30_000
COMMON = 300  # The words of every topic, as "the" and "of" are.
TOPICS, TOPIC_WORDS = 400, 120
ON_TOPIC = 0.35  # Of the words: enough that documents of a topic are near each other, and few enough that all differ.
SENTENCE_WORDS = (8, 24)


def made_up(seed: int) -> Iterator[Piece]:
    """Documents without end; the first n are the same however many are taken."""
    topics = np.random.default_rng([seed, 1]).integers(COMMON, VOCABULARY, (TOPICS, TOPIC_WORDS))
    number = 0
    while True:
        yield _document(number, np.random.default_rng([seed, 2, number]), topics)
        number += 1


def _document(number: int, chance: np.random.Generator, topics: NDArray[np.int64]) -> Piece:
    topic = topics[chance.integers(TOPICS)]
    sentences, words = list[str](), 0
    wanted = int(chance.integers(LEAST_WORDS, MOST_WORDS - SENTENCE_WORDS[1]))
    while words < wanted:
        length = int(chance.integers(*SENTENCE_WORDS, endpoint=True))
        sentences.append(_sentence(chance, length, topic, ON_TOPIC))
        words += length
    title = _sentence(chance, int(chance.integers(5, 10)), topic, 2 * ON_TOPIC).rstrip(".")
    return Piece(f"made-up-{number}", title, " ".join(sentences))


def _sentence(chance: np.random.Generator, length: int, topic: NDArray[np.int64], share: float) -> str:
    """Ranks drawn as 1/rank, of which some are replaced by words of the topic, the first of them the likeliest."""
    ranks = (VOCABULARY ** chance.random(length)).astype(np.int64)
    own = topic[(TOPIC_WORDS ** chance.random(length)).astype(np.int64) - 1]
    words = [word(int(rank)) for rank in np.where(chance.random(length) < share, own, ranks)]
    return " ".join(words).capitalize() + "."


def word(rank: int) -> str:
    """Frequent ones are short."""
    syllables = ""
    while rank or not syllables:
        rank, syllable = divmod(rank, len(SYLLABLES))
        syllables += SYLLABLES[syllable]
    return syllables
