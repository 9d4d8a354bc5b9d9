"""What the rest of the house may know about a reranker: a question and passages in, a score for each out."""

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Reads a question together with each passage, without ever blocking the event loop.

    `score` raises `OverloadedError` when too much is waiting and `UnavailableError` when the model fails or the reranker
    is closed. Cancelling one caller never disturbs another.
    """

    @property
    def name(self) -> str: ...

    async def score(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        """How well each passage answers, from 0 to 1, in the order given; the same passage always scores the same."""

    async def close(self) -> None: ...
