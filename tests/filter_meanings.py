"""The contract, sentence by sentence, on ten documents that a reader can hold in his head."""

from typing import Any


def a_document(attributes: str = "{}", **columns: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "external_id": None,
        "title": None,
        "source": None,
        "language": None,
        "tags": [],
        "published_at": None,
    }
    return empty | columns | {"attributes": attributes}


SHELF = [
    a_document('{"year": 2020, "name": "ada", "x": 5}', external_id="a", title="Alpha", tags=["a", "b"]),
    a_document('{"year": 2020.0, "name": "Bob", "x": "5"}', external_id="b", title="beta", tags=["b"]),
    a_document('{"year": 2021, "x": [5, "five"]}', external_id="c", title="\u00e9clair", tags=["b", "a"]),
    a_document('{"year": null, "x": null}', external_id="d", title="zebra"),
    a_document('{"year": "2020", "x": {"y": {"z": 1}, "0": 2}}', external_id="e"),
    a_document(published_at="2024-05-01T00:00:00Z", source="https://example.org/f", language="german"),
    a_document('{"when": "2024-05-01T02:00:00+02:00"}', published_at="2024-05-01T00:00:00.5Z"),
    a_document('{"when": "2024-04-30T23:59:59Z", "x": true}', published_at="2023-01-01T00:00:00Z"),
    a_document('{"when": "yesterday", "x": false, "kinds": ["p", "q"]}'),
    a_document('{"when": 1714521600, "x": {"y": 7}, "kinds": "p"}'),
]
EVERY = set(range(len(SHELF)))
MEANINGS: list[tuple[str, dict[str, Any], set[int]]] = [
    ("members are joined by AND", {"attributes.year": {"$gte": 2020, "$lt": 2021}, "tags": {"$contains": "a"}}, {0}),
    ("a bare value means $eq", {"title": "Alpha"}, {0}),
    ("a bare list is compared whole", {"tags": ["b", "a"]}, {2}),
    ("a bare list of an attribute too", {"attributes.x": [5, "five"]}, {2}),
    ("external_id", {"external_id": {"$in": ["a", "c", "nobody"]}}, {0, 2}),
    ("source", {"source": "https://example.org/f"}, {5}),
    ("language", {"language": {"$ne": "german"}}, EVERY - {5}),
    ("published_at is a time", {"published_at": "2024-05-01T02:00:00+02:00"}, {5}),
    ("times are ordered", {"published_at": {"$gt": "2024-05-01T00:00:00Z"}}, {6}),
    ("times are ordered downwards", {"published_at": {"$lte": "2024-05-01T00:00:00Z"}}, {5, 7}),
    ("a path goes deep", {"attributes.x.y.z": 1}, {4}),
    ("a path names members, it does not count", {"attributes.x.0": {"$exists": True}}, {4}),
    ("the whole value is compared, not a part of it", {"attributes.x.y": {"$eq": {"z": 1}}}, {4}),
    ("no part is enough", {"attributes.x": {"$eq": {"y": {"z": 1}}}}, set()),
    ("2020 is 2020.0", {"attributes.year": 2020.0}, {0, 1}),
    ("$ne", {"attributes.year": {"$ne": 2020}}, EVERY - {0, 1}),
    ("$in", {"attributes.x": {"$in": [5, [5, "five"], None]}}, {0, 2, 3}),
    ("$nin", {"attributes.x": {"$nin": [5, True]}}, EVERY - {0, 7}),
    ("$in of nothing", {"attributes.x": {"$in": []}}, set()),
    ("$nin of nothing", {"title": {"$nin": []}}, EVERY),
    ("strings are ordered by code point", {"title": {"$gt": "Z"}}, {1, 2, 3}),
    ("an accent is behind z", {"title": {"$gt": "zz"}}, {2}),
    ("strings of attributes as well", {"attributes.name": {"$lt": "a"}}, {1}),
    ("declared times are ordered as times", {"attributes.when": {"$gte": "2024-05-01T00:00:00Z"}}, {6}),
    ("and downwards, without what is no time", {"attributes.when": {"$lt": "2024-05-01T00:00:00Z"}}, {7}),
    ("declared times are equal as times", {"attributes.when": "2024-04-30T20:00:00-04:00"}, {6}),
    ("a declared time that is none", {"attributes.when": {"$ne": "2024-05-01T00:00:00Z"}}, EVERY - {6}),
    ("$contains", {"tags": {"$contains": "a"}}, {0, 2}),
    ("$contains in an attribute", {"attributes.x": {"$contains": 5}}, {2}),
    ("$contains in a declared list", {"attributes.kinds": {"$contains": "p"}}, {8}),
    ("$overlap", {"tags": {"$overlap": ["c", "a"]}}, {0, 2}),
    ("$overlap in an attribute", {"attributes.x": {"$overlap": ["five", 6]}}, {2}),
    ("$overlap with nothing", {"tags": {"$overlap": []}}, set()),
    ("$exists", {"attributes.x": {"$exists": True}}, {0, 1, 2, 3, 4, 7, 8, 9}),
    ("$exists: false", {"title": {"$exists": False}}, EVERY - {0, 1, 2, 3}),
    ("tags are always there", {"tags": {"$exists": True}}, EVERY),
    ("$or", {"$or": [{"title": "Alpha"}, {"attributes.x.y": 7}]}, {0, 9}),
    ("$and", {"$and": [{"tags": {"$contains": "a"}}, {"tags": {"$contains": "b"}}]}, {0, 2}),
    ("$not", {"$not": {"$or": [{"title": "Alpha"}, {"attributes.x": {"$exists": False}}]}}, EVERY - {0, 5, 6}),
    ("$not on one field", {"attributes.year": {"$not": {"$gte": 2021}}}, EVERY - {2}),
    ("another JSON type is never equal", {"attributes.x": "5"}, {1}),
    ("nor in a range", {"attributes.x": {"$gte": 0}}, {0}),
    ("nor in one of strings", {"attributes.x": {"$lt": "zzz"}}, {1}),
    ("true is not 1", {"attributes.x": True}, {7}),
    ("null is a value of its own", {"attributes.x": None}, {3}),
    ("a missing value does not match a range", {"published_at": {"$lt": "2030-01-01T00:00:00Z"}}, {5, 6, 7}),
    ("a missing value matches $not at any depth", {"$not": {"$and": [{"title": {"$lt": "C"}}]}}, EVERY - {0}),
    ("and not the double negation", {"$not": {"$not": {"title": {"$lt": "C"}}}}, {0}),
    ("an empty object inside asks nothing", {"$and": [{}, {"title": "Alpha"}]}, {0}),
    ("so nothing is its negation", {"$not": {}}, set()),
]
