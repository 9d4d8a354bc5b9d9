"""A filter in a URL."""

from typing import Annotated

from fastapi import Query

from service.api.bodies import parse_json
from service.db import own_tables
from service.domain.documents import Collection
from service.domain.errors import InvalidError, MalformedError
from service.domain.filters import Filter, parse_filter

FilterText = Annotated[str | None, Query(description="As in a search: JSON, URL-encoded.")]


def read_filter(text: str | None, collection: Collection) -> Filter | None:
    """Raises InvalidError."""
    if text is None:
        return None
    try:
        raw = parse_json(text.encode(errors="replace"))
    except MalformedError as error:
        raise InvalidError("URL-encoded JSON is needed here", field="filter") from error
    if raw is None:  # In a body it is the same as absent; here it was said.
        raise InvalidError("a filter is an object", field="filter")
    return parse_filter(raw, declared=collection.attributes, joined=own_tables.JOINED)
