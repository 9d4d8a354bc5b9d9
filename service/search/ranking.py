"""The list of a search's hits, packed as `db.paging.ranking` makes it; a cursor carries it, so that pages never shift.

Whatever is written meanwhile, a document that was in the window of page one, and still is as it was, comes exactly once.
"""

import base64
import binascii
import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from service.domain.errors import CursorMismatchError, MalformedError
from service.domain.hits import Explanation, Hit, Share

PLAIN = struct.Struct(">?16sd")
# The shares of both legs as SQL packs them: rank (0 for none), score (NaN for none), contribution. Then what came later
# and SQL leaves NaN: the boost and the reranker's score.
EXPLAINED = struct.Struct(">?16sd8d")
HEAD = struct.Struct(">16s?I")  # whose list it is, whether it is explained, where the next page begins


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk of the list; `first` begins a hit."""

    first: bool
    chunk_id: UUID
    score: float
    explanation: Explanation | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Hits in their order, each with its best chunks."""

    packed: bytes
    explained: bool

    @property
    def form(self) -> struct.Struct:
        return EXPLAINED if self.explained else PLAIN

    def entries(self, start: int = 0, end: int | None = None) -> Iterator[Entry]:
        size = self.form.size
        part = memoryview(self.packed)[start * size : None if end is None else end * size]
        for first, chunk_id, score, *shares in self.form.iter_unpack(part):
            yield Entry(first, UUID(bytes=chunk_id), score, explanation(shares) if shares else None)

    def chunk_ids(self) -> list[UUID]:
        size = self.form.size
        return [UUID(bytes=self.packed[at + 1 : at + 17]) for at in range(0, len(self.packed), size)]

    def end_of(self, start: int, *, hits: int) -> int:
        """The entry with which the page after `hits` hits begins."""
        size, place = self.form.size, start
        end = len(self.packed) // size
        while place < end:
            if self.packed[place * size]:
                if not hits:
                    break
                hits -= 1
            place += 1
        return place

    def __len__(self) -> int:
        return len(self.packed) // self.form.size

    def cut(self, entries: int) -> "Ranking":
        """At most so many entries, whole hits."""
        size = self.form.size
        while 0 < entries < len(self) and not self.packed[entries * size]:
            entries -= 1
        return Ranking(self.packed[: entries * size], self.explained)

    def begun_with(self, hits: Sequence[Hit]) -> "Ranking":
        """The same list with these hits, which are its first ones in another order and with other scores."""
        size, packed = self.form.size, bytearray()
        for hit in hits:
            for number, chunk in enumerate(hit.chunks):
                packed += self.form.pack(
                    number == 0,
                    UUID(chunk.chunk_id).bytes,
                    chunk.score,
                    *(numbers_of(chunk.explain) if self.explained and chunk.explain else ()),
                )
        return Ranking(bytes(packed) + self.packed[self.end_of(0, hits=len(hits)) * size :], self.explained)

    def cursor(self, start: int, *, of: bytes) -> str | None:
        """Where the next page begins; None at the end of the list."""
        if start >= len(self):
            return None
        raw = HEAD.pack(of, self.explained, start) + self.packed
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_cursor(cursor: str, *, of: bytes) -> tuple[Ranking, int]:
    """Raises MalformedError, and CursorMismatchError for a cursor of another search."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        list_of, explained, start = HEAD.unpack_from(raw)
    except (binascii.Error, ValueError, struct.error) as error:
        raise MalformedError("the cursor is not one of this service") from error
    ranking = Ranking(raw[HEAD.size :], explained)
    if len(ranking.packed) % ranking.form.size or not 0 < start < len(ranking):
        raise MalformedError("the cursor is not one of this service")
    if list_of != of:
        raise CursorMismatchError("the cursor belongs to another search")
    if not all(math.isfinite(entry.score) for entry in ranking.entries()):
        raise MalformedError("the cursor is not one of this service")
    return ranking, start


def fingerprint(*parts: object) -> bytes:
    """Of everything that decides what the list holds: a cursor continues that list and no other."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode("utf-8", "replace")).digest()[:16]


def explained(hits: tuple[Hit, ...], ranking: Ranking) -> tuple[Hit, ...]:
    """The hits with what the list knows of their chunks."""
    if not ranking.explained:
        return hits
    known = {str(entry.chunk_id): entry.explanation for entry in ranking.entries()}
    return tuple(
        replace(hit, chunks=tuple(replace(chunk, explain=known[chunk.chunk_id]) for chunk in hit.chunks))
        for hit in hits
    )


def explanation(numbers: Sequence[float]) -> Explanation:
    lexical, semantic = (
        Share(int(rank) or None, known(score), contribution)
        for rank, score, contribution in (numbers[:3], numbers[3:6])
    )
    return Explanation(lexical, semantic, boost=known(numbers[6]), rerank=known(numbers[7]))


def numbers_of(told: Explanation) -> Iterator[float]:
    for share in (told.lexical, told.semantic):
        yield from (float(share.rank or 0), packable(share.score), share.contribution)
    yield from (packable(told.boost), packable(told.rerank))


def known(number: float) -> float | None:
    return None if math.isnan(number) else number


def packable(number: float | None) -> float:
    return math.nan if number is None else number
