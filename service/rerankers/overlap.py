"""A reranker without a model, for tests and tries: which share of the question's words a passage has."""

import re
from collections.abc import Sequence

from service.domain.errors import UnavailableError

WORD = re.compile(r"\w+")


class OverlapReranker:
    """Deterministic over runs and machines. It knows less than BM25 does: no figure of relevance may come from it."""

    name = "overlap"

    def __init__(self) -> None:
        self._closed = False

    async def score(self, question: str, passages: Sequence[str]) -> Sequence[float]:
        """`|words of the question in the passage| / |words of the question|`, each word once; 0 without any."""
        if self._closed:
            raise UnavailableError("The reranker is closed.")
        asked = words(question)
        return [len(asked & words(passage)) / (len(asked) or 1) for passage in passages]

    async def close(self) -> None:
        self._closed = True


def words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))
