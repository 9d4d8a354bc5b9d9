"""What the measurements need to know of a side: how to ask it, and how to read what it answered."""

from collections.abc import Sequence
from typing import Protocol

from bench.peers.failures import PeerError
from bench.peers.http_client import Load, Origin

LIMIT = 10  # Hits asked of every side, texts included.


class VectorServer(Protocol):
    """A server that finds neighbours of a vector, with a filter or without."""

    name: str
    origin: Origin

    async def use(self, effort: int) -> None:
        """Search so widely (its `ef`) from now on."""

    def vector_request(self, query: int, *, share: float | None = None) -> bytes:
        """The `LIMIT` nearest documents to a query's vector with their texts, of the share that a filter leaves."""

    def found(self, body: bytes) -> list[str]:
        """Ids, best first; raises PeerError when a text is missing."""


class HybridServer(Protocol):
    name: str
    origin: Origin

    def hybrid_request(self, query: int) -> bytes: ...

    def found(self, body: bytes) -> list[str]: ...


def with_texts(pairs: Sequence[tuple[str, str | None]]) -> list[str]:
    """The ids; a side that leaves the texts out has done less than the others."""
    for name, text in pairs:
        if not text:
            raise PeerError(f"the answer has no text of {name}")
    return [name for name, _ in pairs]


def first_answers(load: Load) -> dict[int, bytes]:
    """One body for each request; the same request later in the loop has the same answer."""
    return {answer.request: answer.body for answer in reversed(load.answers)}
