"""Asking by examples instead of by a question: which documents to be near, and which to keep away from."""

from dataclasses import dataclass, field
from typing import Literal

from service.domain.filters import Filter
from service.domain.queries import Limits

Strategy = Literal["average_vector", "best_score"]
MOST_EXAMPLES = 100  # of either kind


@dataclass(frozen=True, slots=True)
class Example:
    """A document as a client names it; `by` is `either` where only the text was given: an id or else an external_id.

    `field` is where it stands in the request, for an error that names it.
    """

    text: str
    by: Literal["id", "external_id", "either"]
    field: str = ""


@dataclass(frozen=True, slots=True)
class Recommendation:
    positive: tuple[Example, ...]
    negative: tuple[Example, ...] = ()
    strategy: Strategy = "average_vector"
    limit: int = 10
    filter: Filter | None = None
    chunks_per_document: int = 3
    limits: Limits = field(default_factory=Limits)
