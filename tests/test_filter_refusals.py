"""What a filter may not say, and that the refusal names the place."""

import json
import math
from typing import Any

import pytest

from service.domain.errors import InvalidError
from service.domain.filters import MAX_DEPTH, MAX_NODES, MAX_VALUES, parse_filter
from tests.filter_world import DECLARED

REFUSED: list[tuple[Any, str]] = [
    # the shape
    ([], "filter"),
    ("title", "filter"),
    (0, "filter"),
    ({"$and": []}, "filter.$and"),
    ({"$or": {"title": "a"}}, "filter.$or"),
    ({"$and": [{"title": "a"}, "title"]}, "filter.$and.1"),
    ({"$not": [{"title": "a"}]}, "filter.$not"),
    ({"$not": None}, "filter.$not"),
    ({"$nor": [{"title": "a"}]}, "filter.$nor"),
    ({"$eq": 1}, "filter.$eq"),
    ({"title": {}}, "filter.title"),
    ({"title": {"$not": {}}}, "filter.title.$not"),
    # unknown columns and operators
    ({"colour": "red"}, "filter.colour"),
    ({"": "red"}, "filter."),
    ({"attributes": {"$exists": True}}, "filter.attributes"),
    ({"attributes.": 1}, "filter.attributes."),
    ({"attributes.a..b": 1}, "filter.attributes.a..b"),
    ({"title.x": "a"}, "filter.title.x"),
    ({"collection_id": "a"}, "filter.collection_id"),
    ({"title": {"$like": "a"}}, "filter.title.$like"),
    ({"title": {"$eq": "a", "eq": "a"}}, "filter.title.eq"),
    ({"attributes.x": {"y": 1}}, "filter.attributes.x.y"),
    ({"attributes." + ".".join("abcdefghijk"): 1}, "filter.attributes.a.b.c.d.e.f.g.h.i.j.k"),
    # values that a column cannot hold
    ({"title": None}, "filter.title"),
    ({"title": 1}, "filter.title"),
    ({"title": ["a"]}, "filter.title"),
    ({"title": {"$in": "a"}}, "filter.title.$in"),
    ({"title": {"$in": ["a", None]}}, "filter.title.$in.1"),
    ({"title": {"$in": {"a": 1}}}, "filter.title.$in"),
    ({"title": {"$lt": True}}, "filter.title.$lt"),
    ({"title": {"$contains": "a"}}, "filter.title.$contains"),
    ({"published_at": {"$overlap": ["2024-05-01T00:00:00Z"]}}, "filter.published_at.$overlap"),
    ({"tags": "a"}, "filter.tags"),
    ({"tags": [1]}, "filter.tags.0"),
    ({"tags": {"$contains": ["a"]}}, "filter.tags.$contains"),
    ({"tags": {"$overlap": "a"}}, "filter.tags.$overlap"),
    ({"tags": {"$in": ["a"]}}, "filter.tags.$in.0"),
    ({"tags": {"$lt": ["a"]}}, "filter.tags.$lt"),
    ({"tags": {"$exists": 1}}, "filter.tags.$exists"),
    ({"tags": {"$exists": None}}, "filter.tags.$exists"),
    *(
        ({"published_at": {"$gte": wrong}}, "filter.published_at.$gte")
        for wrong in (None, 0, "", "now", "yesterday", "2024-05-01", "2024-05-01T00:00:00", "2024-05-01T00:00Z")
    ),
    *(
        ({"published_at": wrong}, "filter.published_at")
        for wrong in ("2023-02-29T00:00:00Z", "2024-05-01T24:00:00Z", "2016-12-31T23:59:60Z", "0000-01-01T00:00:00Z")
    ),
    *(
        ({"published_at": wrong}, "filter.published_at")
        for wrong in ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.9999999Z")
    ),
    # values that a declared attribute cannot hold
    ({"attributes.year": "2020"}, "filter.attributes.year"),
    ({"attributes.year": 1.5}, "filter.attributes.year"),
    ({"attributes.year": 1e30}, "filter.attributes.year"),
    ({"attributes.year": True}, "filter.attributes.year"),
    ({"attributes.year": None}, "filter.attributes.year"),
    ({"attributes.year": {"$gte": 2019.5}}, "filter.attributes.year.$gte"),
    ({"attributes.year": {"$nin": [1, "a"]}}, "filter.attributes.year.$nin.1"),
    ({"attributes.year": {"$contains": 1}}, "filter.attributes.year.$contains"),
    ({"attributes.level": "1"}, "filter.attributes.level"),
    ({"attributes.level": False}, "filter.attributes.level"),
    ({"attributes.name": 1}, "filter.attributes.name"),
    ({"attributes.ok": 1}, "filter.attributes.ok"),
    ({"attributes.ok": {"$lt": True}}, "filter.attributes.ok.$lt"),
    ({"attributes.when": "2024"}, "filter.attributes.when"),
    ({"attributes.kinds": "a"}, "filter.attributes.kinds"),
    ({"attributes.kinds": {"$overlap": [1]}}, "filter.attributes.kinds.$overlap.0"),
    ({"attributes.kinds": {"$gt": ["a"]}}, "filter.attributes.kinds.$gt"),
    ({"attributes.nest.n": "1"}, "filter.attributes.nest.n"),
    # values that nothing can hold, or that have no order
    ({"attributes.x": {"$lt": True}}, "filter.attributes.x.$lt"),
    ({"attributes.x": {"$gte": None}}, "filter.attributes.x.$gte"),
    ({"attributes.x": {"$gt": [1]}}, "filter.attributes.x.$gt"),
    ({"attributes.x": {"$contains": [1]}}, "filter.attributes.x.$contains"),
    ({"attributes.x": {"$contains": {"a": 1}}}, "filter.attributes.x.$contains"),
    ({"attributes.x": math.nan}, "filter.attributes.x"),
    ({"attributes.x": {"$lt": math.inf}}, "filter.attributes.x.$lt"),
    ({"attributes.x": [1, [-math.inf]]}, "filter.attributes.x"),
    ({"attributes.x": 2**63}, "filter.attributes.x"),
    ({"attributes.x": -(2**63) - 1}, "filter.attributes.x"),
    ({"attributes.x": {"$eq": {"a": [10**400]}}}, "filter.attributes.x"),
    ({"title": "a\0"}, "filter.title"),
    ({"title": "\ud800"}, "filter.title"),
    ({"tags": {"$contains": "\udfff"}}, "filter.tags.$contains"),
    ({"attributes.x": {"$eq": {"\0": 1}}}, "filter.attributes.x.$eq"),
    ({"attributes.x": {"$eq": {"a": {"\ud800": 1}}}}, "filter.attributes.x.$eq"),
    ({"attributes.\0": 1}, "filter.attributes.\0"),
    ({"attributes.\ud800": 1}, "filter.attributes.\\ud800"),
    ({"\ud800": 1}, "filter.\\ud800"),
    ({"title": "x" * 8_193}, "filter.title"),
    ({"y" * 10_000_000: 1}, "filter." + "y" * 100 + "…"),
    # the limits
    ({"title": {"$in": ["a"] * (MAX_VALUES + 1)}}, "filter.title.$in"),
    ({"attributes.x": [1] * (MAX_VALUES + 1)}, "filter.attributes.x"),
    ({"attributes.x": {"$eq": {str(n): n for n in range(MAX_VALUES + 1)}}}, "filter.attributes.x.$eq"),
    ({"tags": {"$in": [["a"] * 500, ["b"] * 500]}}, "filter.tags.$in.1"),
    ({"$or": [{"title": "a"}] * MAX_NODES}, f"filter.$or.{MAX_NODES - 1}.title"),
    ({"$or": [{"title": {"$gt": "a", "$lt": "b"}}] * 25}, "filter.$or.24.title.$lt"),
]


def nested(depth: int) -> dict[str, Any]:
    return {"title": "a"} if depth == 1 else {"$not": nested(depth - 1)}


def nested_list(depth: int) -> list[Any]:
    return [] if depth == 1 else [nested_list(depth - 1)]


@pytest.mark.parametrize(("raw", "place"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_a_refusal_names_the_place(raw: object, place: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_filter(raw, declared=DECLARED)

    assert refused.value.field == place or refused.value.field.startswith(f"{place}.")
    assert len(str(refused.value)) < 200
    json.dumps([str(refused.value), refused.value.field], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("deepest", "place"),
    [
        (nested(MAX_DEPTH + 1), "filter.$not.$not.$not.$not.$not.title"),
        (
            {"$not": {"$not": {"$not": {"$not": {"title": {"$not": {"$eq": "a"}}}}}}},
            "filter.$not.$not.$not.$not.title.$not",
        ),
        (nested(500), "filter.$not.$not.$not.$not.$not.$not"),
        ({"attributes.x": nested_list(17)}, "filter.attributes.x"),
    ],
)
def test_what_is_too_deep_is_refused_before_anything_recurses_over_it(deepest: object, place: str) -> None:
    with pytest.raises(InvalidError, match="deep") as refused:
        parse_filter(deepest, declared={})

    assert refused.value.field.startswith(place)


@pytest.mark.parametrize(
    "raw",
    [
        nested(MAX_DEPTH),
        {"$or": [{"title": "a"}] * (MAX_NODES - 1)},
        {f"attributes.k{n}": n for n in range(MAX_NODES)},
        {"title": {"$in": ["a"] * MAX_VALUES}},
        {"attributes.x": nested_list(16)},
        {"attributes.x": "x" * 8_192},
        {"attributes.x": [2**63 - 1, -(2**63), 1e300]},
        {"attributes.year": 2020.0},
        {"attributes.x": {"$in": [None, True, [], {}]}},
        {"published_at": "0001-01-01T00:00:00Z"},
        {"published_at": "9999-12-31T23:59:59.999999Z"},
    ],
    ids=range(11),
)
def test_up_to_the_limits_a_filter_is_accepted(raw: object) -> None:
    assert parse_filter(raw, declared=DECLARED) is not None
