"""What is asked: half whole titles, half three words, all of them distinct as the service tells queries apart."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from bench.failures import BenchError
from bench.pieces import sentences_of
from service.cli.judged import neutral

SHORT, LONG = 3, 12


def distinct_queries(titles: Sequence[str], texts: Sequence[str], count: int) -> list[str]:
    """Titles and first three words in turn; where the titles do not suffice, the same of sentences, then of any words.

    Of more documents the first queries are the same, as long as the titles of the fewer suffice.
    """
    seen: set[str] = set()
    long = _take(chain(titles, _sentences(texts), _windows(texts, LONG)), count - count // 2, seen)
    starts = chain(_starts(titles), _starts(_sentences(texts)), _windows(texts, SHORT))
    short = _take(starts, count // 2, seen)
    together = [query for pair in zip(long, short, strict=False) for query in pair] + long[len(short) :]
    if len(together) < count:
        raise BenchError(
            f"{len(titles):,} documents give {len(together):,} distinct queries, not {count:,}: take more."
        )
    return together


def _take(texts: Iterable[str], count: int, seen: set[str]) -> list[str]:
    taken: list[str] = []
    for text in texts:
        if len(taken) == count:
            break
        query = " ".join(neutral(text).split())
        if len(query.split()) >= SHORT and query.casefold() not in seen:
            seen.add(query.casefold())
            taken.append(query)
    return taken


def _starts(texts: Iterable[str]) -> Iterator[str]:
    return (" ".join(text.split()[:SHORT]) for text in texts)


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """The first of each, then the second of each: neighbours in time should not be neighbours in a text."""
    split = [sentences_of(text) for text in texts]
    for number in range(max(map(len, split), default=0)):
        yield from (" ".join(each[number].split()[: 2 * LONG]) for each in split if number < len(each))


def _windows(texts: Iterable[str], length: int) -> Iterator[str]:
    for text in texts:
        words = text.split()
        yield from (" ".join(words[start : start + length]) for start in range(0, len(words) - length, length))
