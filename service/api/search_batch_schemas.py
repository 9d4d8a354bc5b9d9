"""Many searches on the wire, and their answers."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue, WithJsonSchema

from service.api.hits import SearchResponse
from service.api.problems import Problem
from service.api.search_schemas import Body

MOST_SEARCHES = 100


class SearchBatchRequest(Body):
    # Each is read by itself, so that a bad one disturbs no other: to the list as a whole they may be anything.
    searches: Annotated[
        list[Annotated[JsonValue, WithJsonSchema({"anyOf": [{"x-component": "SearchRequest"}, {}]})]],
        Field(min_length=1, max_length=MOST_SEARCHES),
    ] = Field(description="The bodies of searches.")


class Found(SearchResponse):
    """The answer of one search."""

    status: Literal[200]


class Refused(BaseModel):
    """What the search alone would have been told."""

    status: int
    problem: Problem


class SearchBatchResponse(BaseModel):
    results: list[Found | Refused]
