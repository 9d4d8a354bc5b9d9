"""A recommendation on the wire."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, PlainValidator, WithJsonSchema

from service.api.search_schemas import WHOLE, Body, ParamsBody
from service.db import own_tables
from service.domain.documents import Collection
from service.domain.examples import MOST_EXAMPLES, Example, Recommendation, Strategy
from service.domain.filter_values import UNSTORABLE
from service.domain.filters import parse_filter
from service.domain.names import EXTERNAL_ID_LENGTH
from service.domain.queries import Limits

NAMED = {"type": "string", "minLength": 1, "maxLength": EXTERNAL_ID_LENGTH, "pattern": r"^[^\u0000]*$"}


def read_example(raw: object) -> Example:
    by: Literal["id", "external_id", "either"] = "either"
    text = raw
    if isinstance(raw, dict) and len(raw) == 1:
        ((key, text),) = raw.items()
        if key not in {"id", "external_id"}:
            raise ValueError("a document is named by its id or by its external_id")
        by = key
    if not isinstance(text, str):
        raise ValueError('a document\'s id is needed here, or {"id": …}, or {"external_id": …}')  # noqa: TRY004  pydantic's
    if not 1 <= len(text) <= EXTERNAL_ID_LENGTH or UNSTORABLE.search(text):
        raise ValueError("no document is called that")
    return Example(text, by)


ExampleBody = Annotated[
    Example,
    PlainValidator(read_example),
    WithJsonSchema(
        {
            "anyOf": [NAMED]
            + [
                {"type": "object", "properties": {key: NAMED}, "required": [key], "additionalProperties": False}
                for key in ("id", "external_id")
            ]
        }
    ),
]


class RecommendRequest(Body):
    positive: Annotated[list[ExampleBody], Field(min_length=1, max_length=MOST_EXAMPLES)] = Field(
        description="Documents to be near: a string is an id or else an external_id; an object says which it is."
    )
    negative: Annotated[list[ExampleBody], Field(max_length=MOST_EXAMPLES)] = Field(
        default_factory=list, description="Documents to keep away from."
    )
    strategy: Strategy = Field(
        default="average_vector",
        description="`average_vector`: near 2 * mean(positive) - mean(negative). `best_score`: the best cosine to a positive;"
        " where one to a negative is as good, minus its square.",
    )
    limit: Annotated[int, Field(ge=1, le=100), WHOLE] = Field(default=10)
    filter: Annotated[dict[str, JsonValue], WithJsonSchema({"x-component": "Filter"})] | None = None
    chunks_per_document: Annotated[int, Field(ge=1, le=10), WHOLE] = Field(default=3)
    params: ParamsBody = Field(default_factory=ParamsBody)

    def to_recommendation(self, collection: Collection) -> Recommendation:
        """Raises InvalidError for a filter that is none."""
        return Recommendation(
            positive=placed(self.positive, "positive"),
            negative=placed(self.negative, "negative"),
            strategy=self.strategy,
            limit=self.limit,
            filter=parse_filter(self.filter, declared=collection.attributes, joined=own_tables.JOINED),
            chunks_per_document=self.chunks_per_document,
            limits=Limits(**self.params.model_dump()),
        )


def placed(found: list[Example], field: str) -> tuple[Example, ...]:
    return tuple(Example(each.text, each.by, f"{field}.{number}") for number, each in enumerate(found))
