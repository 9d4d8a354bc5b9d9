"""When a filter is slow the answer says so, and what helps."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.documents import Collection
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.search.warnings import SCANNED_CHUNKS, unindexed_filter

DECLARED = {"year": "integer", "when": "timestamp", "late": "number", "kinds": "string[]", "crew.director": "string"}
LARGE = Collection(
    id=new_id(),
    tenant_id=new_id(),
    name="large",
    language="english",
    attributes=DECLARED,
    profile_id=new_id(),
    chunk_count=SCANNED_CHUNKS + 1,
    created_at=datetime.now(UTC),
    updated_at=datetime.now(UTC),
    unbuilt=frozenset({"late"}),
)
DECLARE, NARROW, WAIT = "declare it with PATCH", "add a condition that narrows", "until its index is built"


def message(raw: dict[str, Any], collection: Collection = LARGE) -> str:
    warning = unindexed_filter(parse_filter(raw, declared=collection.attributes), collection)
    return "" if warning is None else warning.message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"attributes.x": {"$gte": 1}}, ["attributes.x", DECLARE]),
        ({"attributes.x": {"$lt": "z"}}, ["attributes.x", DECLARE]),
        ({"attributes.a.b": {"$gt": 1, "$lt": 3}}, ["attributes.a.b", DECLARE]),
        ({"attributes.x": {"$exists": True}}, ["attributes.x", NARROW]),
        ({"attributes.x": {"$ne": 1}}, ["attributes.x", NARROW]),
        ({"attributes.x": {"$nin": [1]}}, ["attributes.x", NARROW]),
        ({"$not": {"attributes.x": 1}}, ["attributes.x", NARROW]),
        ({"$not": {"attributes.x": {"$gte": 1}}}, ["attributes.x", NARROW]),
        ({"attributes.late": {"$gte": 1}}, ["attributes.late", WAIT]),
        ({"attributes.late": 1}, ["attributes.late", WAIT]),
        ({"$or": [{"attributes.year": 1}, {"attributes.x": {"$gt": 1}}]}, ["attributes.x", DECLARE]),
        ({"attributes.x": {"$gt": 1}, "title": "a"}, ["attributes.x", DECLARE]),
        (
            {"attributes.x": {"$gt": 1}, "attributes.y": {"$exists": True}},
            ["attributes.x", "attributes.y", DECLARE, NARROW],
        ),
        (
            {f"attributes.{name}": {"$gt": 1} for name in "edcba"},
            ["attributes.a, attributes.b, attributes.c and 2 more"],
        ),
    ],
    ids=str,
)
def test_a_slow_filter_is_named_with_what_helps(raw: dict[str, Any], words: list[str]) -> None:
    told = message(raw)

    assert all(word in told for word in words), told
    assert "attributes.year" not in told


@pytest.mark.parametrize(
    "raw",
    [
        {"attributes.x": 1},
        {"attributes.x": {"$in": [1, 2]}},
        {"attributes.x": {"$contains": 1}},
        {"attributes.x": {"$overlap": [1]}},
        {"attributes.kinds": {"$contains": "a"}},
        {"attributes.kinds": ["a"]},
        {"attributes.year": {"$gte": 1}},
        {"attributes.when": {"$lt": "2020-01-01T00:00:00Z"}},
        {"attributes.crew.director": {"$gt": "a"}},
        {"attributes.year": {"$exists": True}},
        {"attributes.year": {"$ne": 1}},
        {"attributes.x": {"$gte": 1}, "attributes.y": 2},
        {"attributes.x": {"$gte": 1}, "tags": {"$contains": "a"}},
        {"attributes.x": {"$gte": 1}, "attributes.year": {"$gte": 1}},
        {"$and": [{"attributes.x": {"$gte": 1}}, {"external_id": {"$in": ["a"]}}]},
        {"$or": [{"attributes.x": 1}, {"attributes.y": 1, "attributes.z": {"$gt": 1}}]},
        {"title": {"$gt": "a"}},
    ],
    ids=str,
)
def test_what_an_index_narrows_is_not_slow(raw: dict[str, Any]) -> None:
    assert message(raw) == ""


def test_a_small_collection_is_read_before_anybody_notices() -> None:
    small = replace(LARGE, chunk_count=SCANNED_CHUNKS)

    assert message({"attributes.x": {"$gte": 1}}, small) == ""


def test_no_filter_is_never_slow() -> None:
    assert unindexed_filter(None, LARGE) is None
