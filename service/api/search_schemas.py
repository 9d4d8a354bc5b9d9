"""A search on the wire."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from service.api.schemas import NOT_ALL_ZERO, WITHOUT_NUL
from service.db import own_tables
from service.domain.documents import Collection
from service.domain.errors import InvalidError
from service.domain.filters import parse_filter
from service.domain.queries import WINDOW, Fusion, Limits, Mode, Query, Rearrangement, Recency, Tags

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # Neither has a place in a Postgres text.


def nullable(schema: dict[str, Any]) -> None:
    """What `drop_nulls` lets through, said in the JSON schema."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            words = {word: field.pop(word) for word in ("title", "description", "default") if word in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **words}


def whole(value: object) -> object:
    """JSON has one kind of number: 10.0 is the integer 10."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
FACET = Field(json_schema_extra={"pattern": r"^(tags|source|language|attributes(\.[^.\u0000]+){1,10})$"})


class Body(BaseModel):
    """Absent and null mean the same, except where null says something of its own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, json_schema_extra=nullable)
    telling_nulls: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, raw: object) -> object:
        if not isinstance(raw, dict) or None not in raw.values():
            return raw
        known = cls.model_fields.keys() - cls.telling_nulls
        return {name: value for name, value in raw.items() if value is not None or name not in known}


class WeightsBody(Body):
    lexical: float = Field(default=1, ge=0, le=1e6)
    semantic: float = Field(default=1, ge=0, le=1e6)


USUAL_WEIGHTS = WeightsBody()  # Frozen, as every body is, so that all may share it.


class FusionBody(Body):
    method: Literal["linear", "rrf"] = "linear"
    alpha: float = Field(default=0.6, ge=0, le=1, description="`linear`: 0 is lexical alone, 1 semantic alone.")
    weights: WeightsBody = Field(default_factory=lambda: USUAL_WEIGHTS, description="Of the legs in `rrf`.")
    k: float = Field(default=60, gt=0, le=1e6, description="`rrf`: sum(weight / (k + rank)), rank from 1.")
    window: Annotated[int, Field(ge=1, le=1000), WHOLE] = Field(
        default=WINDOW, description="Chunks from each leg; pages end where it ends."
    )


class ParamsBody(Body):
    ef_search: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = Field(
        default=None,
        description="HNSW's candidate list; without a filter the graph is walked from 2,000 chunks.",
    )
    exact: bool = Field(default=False, description="Scan every chunk that passes the filter.")
    budget: Annotated[int, Field(ge=1, le=100_000_000), WHOLE] | None = Field(
        default=None, description="Postings that select candidates."
    )
    timeout_ms: Annotated[int, Field(ge=1, le=60_000), WHOLE] | None = Field(
        default=None, description="The search's own deadline; a 503 when it passes."
    )


USUAL_FUSION, USUAL_PARAMS = FusionBody(), ParamsBody()


class HighlightBody(Body):
    pre_tag: Annotated[str, WITHOUT_NUL] = Field(default="<em>", max_length=100)
    post_tag: Annotated[str, WITHOUT_NUL] = Field(default="</em>", max_length=100)


def marking(value: object) -> object:
    """`true` is the usual tags."""
    return {} if value is True else value


TAG = {"type": "string", "maxLength": 100}
HIGHLIGHT = WithJsonSchema(
    {
        "anyOf": [
            {"const": True},
            {"type": "object", "properties": {"pre_tag": TAG, "post_tag": TAG}, "additionalProperties": False},
        ]
    }
)


class RecencyBody(Body):
    half_life_days: float = Field(
        gt=0, le=1e6, description="The boost halves with every so many days since `published_at`."
    )
    weight: float = Field(default=0.15, gt=0, le=1e6, description="What a document of this moment gains.")


class BoostBody(Body):
    recency: RecencyBody | None = None


class RerankBody(Body):
    top_n: Annotated[int, Field(ge=1, le=200), WHOLE] = Field(
        default=50, description="How many documents are read again."
    )


class MmrBody(Body):
    diversity: float = Field(default=0.3, ge=0, le=1, description="0 is relevance alone, 1 difference alone.")


def asking(schema: dict[str, Any]) -> None:
    """A question is needed, unless a vector is what is looked for."""
    nullable(schema)
    question = {"required": ["query"], "properties": {"query": {"type": "string", "pattern": r"\S"}}}
    vector = {
        "required": ["mode", "vector"],
        "properties": {"mode": {"const": "semantic"}, "vector": {"type": "array"}, "rerank": {"type": "null"}},
    }
    schema["anyOf"] = [question, vector]


class SearchRequest(Body):
    model_config = ConfigDict(json_schema_extra=asking)
    telling_nulls: ClassVar[frozenset[str]] = frozenset({"group_by"})

    query: Annotated[str, WITHOUT_NUL] = Field(
        default="", max_length=10_000, description='OR of its words; "…" must occur, -word must not.'
    )
    mode: Mode = "hybrid"
    limit: Annotated[int, Field(ge=1, le=100), WHOLE] = Field(default=10)
    filter: Annotated[dict[str, JsonValue], WithJsonSchema({"x-component": "Filter"})] | None = None
    group_by: Literal["document"] | None = "document"
    chunks_per_document: Annotated[int, Field(ge=1, le=10), WHOLE] = Field(default=3)
    vector: Annotated[list[float], Field(min_length=1, max_length=16_000), NOT_ALL_ZERO] | None = Field(
        default=None, description="Instead of the embedding of `query`; of the active profile's dimension."
    )
    fusion: FusionBody = Field(default_factory=lambda: USUAL_FUSION)
    params: ParamsBody = Field(default_factory=lambda: USUAL_PARAMS)
    cursor: str | None = Field(default=None, max_length=400_000, description="`next_cursor` of the page before.")
    score_threshold: float | None = Field(default=None, description="Chunks with a lower score are no hits.")
    facets: Annotated[list[Annotated[str, FACET]], Field(max_length=20)] = Field(
        default_factory=list,
        description="`tags`, `source`, `language` or `attributes.…`: values with their documents counted.",
    )
    highlight: Annotated[HighlightBody, BeforeValidator(marking), HIGHLIGHT] | None = Field(
        default=None, description="Marks the words that matched; where only the meaning did, the best sentence."
    )
    include: list[Literal["count", "explain"]] = Field(default_factory=list, max_length=2)
    boost: BoostBody | None = None
    rerank: RerankBody | None = Field(
        default=None, description="Reads the best documents again with the service's reranker."
    )
    mmr: MmrBody | None = Field(
        default=None, description="Maximal marginal relevance: hits that differ from those above."
    )

    def to_query(self, collection: Collection, *, dimension: int) -> Query:
        """Raises InvalidError for what the types alone cannot say. `dimension` is the active profile's."""
        if UNSTORABLE.search(self.query):
            raise InvalidError("NUL and lone surrogates are not text", field="query")
        if not self.query.strip() and (self.mode != "semantic" or self.vector is None):
            raise InvalidError("it must not be empty", field="query")
        if self.vector is not None and len(self.vector) != dimension:
            raise InvalidError(f"it has {len(self.vector)} numbers, the profile {dimension}", field="vector")
        if self.vector is not None and not any(self.vector):
            raise InvalidError("a zero vector has no direction", field="vector")
        p = self.params
        return Query(
            question=self.query,
            mode=self.mode,
            limit=self.limit,
            filter=parse_filter(self.filter, declared=collection.attributes, joined=own_tables.JOINED),
            grouped=self.group_by is not None,
            chunks_per_document=self.chunks_per_document,
            vector=None if self.vector is None else tuple(self.vector),
            fusion=Fusion(
                method=self.fusion.method,
                alpha=self.fusion.alpha,
                lexical_weight=self.fusion.weights.lexical,
                semantic_weight=self.fusion.weights.semantic,
                k=self.fusion.k,
                window=self.fusion.window,
            ),
            limits=Limits(p.ef_search, p.exact, p.budget, p.timeout_ms),
            score_threshold=self.score_threshold,
            rearranged=self.rearrangement(),
            highlight=None if self.highlight is None else Tags(self.highlight.pre_tag, self.highlight.post_tag),
            facets=tuple(dict.fromkeys(self.facets)),
            count="count" in self.include,
            explain="explain" in self.include,
            cursor=self.cursor,
        )

    def rearrangement(self) -> Rearrangement | None:
        recency = self.boost.recency if self.boost else None
        if recency is None and self.rerank is None and self.mmr is None:
            return None
        return Rearrangement(
            top_n=self.rerank.top_n if self.rerank else 50,
            recency=None if recency is None else Recency(recency.half_life_days, recency.weight),
            rerank=self.rerank is not None,
            diversity=None if self.mmr is None else self.mmr.diversity,
        )
