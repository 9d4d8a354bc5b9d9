"""What a search asks for, once the door has checked it."""

import re
from dataclasses import dataclass, field
from typing import Literal

from service.domain.filters import Filter

Mode = Literal["hybrid", "lexical", "semantic"]
WINDOW = 200  # Chunks from each leg. Fixed, so that page one of ten is a prefix of page one of fifty.
WIDENING = (
    8  # A leg alone widens its window so many times over, until it has found as many documents as were asked for.
)

# A quoted phrase, with a minus after white space before it or without, or such a minus directly before a letter.
# A minus inside a phrase is a part of it.
MARKED = re.compile(r'(?<!\S)-(?:"(?P<barred>[^"]*)"|(?P<excluded>[^\W\d_][^\s"]*))|"(?P<phrase>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Words:
    """The question taken apart: `text` is what is looked for (OR), phrases must occur, excluded words and phrases must not."""

    text: str
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @classmethod
    def parse(cls, question: str) -> "Words":
        found = list(MARKED.finditer(question))
        phrases = (match["phrase"].strip() for match in found if match["phrase"])
        excluded = ((match["excluded"] or match["barred"] or "").strip() for match in found)
        text = MARKED.sub(lambda match: f" {match['phrase'] or ''} ", question).replace('"', " ")
        return cls(" ".join(text.split()), tuple(filter(None, phrases)), tuple(filter(None, excluded)))


@dataclass(frozen=True, slots=True)
class Fusion:
    """`linear` weighs completed scores by alpha (0 lexical, 1 semantic); `rrf` sums weight / (k + rank), rank from 1."""

    method: Literal["linear", "rrf"] = "linear"
    alpha: float = 0.6
    lexical_weight: float = 1.0
    semantic_weight: float = 1.0
    k: float = 60
    window: int = WINDOW


@dataclass(frozen=True, slots=True)
class Limits:
    """Per-query knobs; None leaves the service's own."""

    ef_search: int | None = None
    exact: bool = False
    budget: int | None = None
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Tags:
    """What goes before and after a part of a text that is marked."""

    pre: str = "<em>"
    post: str = "</em>"


@dataclass(frozen=True, slots=True)
class Recency:
    """A document's score grows by up to `weight`, half as much with every half-life since `published_at`."""

    half_life_days: float
    weight: float


@dataclass(frozen=True, slots=True)
class Rearrangement:
    """What happens to the best documents after fusion, in this order; None leaves a step out. A reranker reads `top_n`."""

    top_n: int = 50
    recency: Recency | None = None
    rerank: bool = False
    diversity: float | None = None  # maximal marginal relevance: 0 is relevance alone, 1 difference alone


@dataclass(frozen=True, slots=True)
class Query:
    question: str
    mode: Mode = "hybrid"
    limit: int = 10
    filter: Filter | None = None
    grouped: bool = True
    chunks_per_document: int = 3
    vector: tuple[float, ...] | None = None
    fusion: Fusion = field(default_factory=Fusion)
    limits: Limits = field(default_factory=Limits)
    score_threshold: float | None = None
    rearranged: Rearrangement | None = None
    highlight: Tags | None = None
    facets: tuple[str, ...] = ()  # "tags", "source", "language" or "attributes.<path>"
    count: bool = False
    explain: bool = False
    cursor: str | None = None
