"""GET /v1/collections/{name}/documents with `filter` and `sort`, against the same order in Python."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.db.listing import find_documents, find_ids, read_ids
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.domain.sorting import parse_sort
from service.resources import Resources
from tests.api_calls import Api, Json, code, fields
from tests.search_calls import collection_of, settle

START = datetime(2020, 1, 1, tzinfo=UTC)
VALUES: list[Any] = [None, "b", "B", "é", "a", "", 3, 2.5, 20, -1, True, False, [1], {"x": 1}, "x" * 2_001, 2**62, "10"]
MIXED = {str: 0, int: 1, float: 1, bool: 2}
TITLES = ["Zebra", "apple", "Äpfel", "zebra", "a" * 600, "a" * 599 + "b", None, "10", "9", "🙂", "\uffff"]


def document(n: int) -> Json:
    body: Json = {"external_id": f"{'é' if n % 7 == 0 else 'd'}/{n}", "text": f"text {n}", "tags": [f"t{n % 3}"]}
    title = TITLES[n % len(TITLES)]
    body |= {} if title is None else {"title": title}
    if n % 5:
        body["published_at"] = (START + timedelta(days=n * 37 % 11, microseconds=n % 2)).isoformat()
    value = VALUES[n % len(VALUES)]
    at = [f"2024-05-01T{n % 24:02}:00:00+0{n % 9}:00", "2024-05-01", None][0 if n % 4 else n // 4 % 3]
    body["attributes"] = {"mixed": value, "deep": {"n": n % 8}, "at": at} if n % 6 else {}
    return body


@pytest.fixture(scope="module")
async def shelf(api: Api, resources: Resources) -> str:
    """Sixty indexed documents, of many kinds of values and with ties, and six that wait."""
    name = await api.make_collection("shelf")
    for start in (0, 20, 40):
        answers = await api.batch(name, [document(n) for n in range(start, start + 20)])
        assert {each["status"] for each in answers} == {202}
    await settle(api, resources, name)
    declared = await api.client.patch(f"/v1/collections/{name}", json={"attributes": {"deep.n": "integer"}})
    assert declared.status_code == 200
    await api.batch(name, [document(n) for n in range(60, 66)])
    return name


async def every(api: Api, collection: str) -> list[Json]:
    found: list[Json] = []
    cursor: Json = {}
    while True:
        answer = await api.client.get(f"/v1/collections/{collection}/documents", params={"limit": 100, **cursor})
        found += answer.json()["documents"]
        if answer.json()["next_cursor"] is None:
            return found
        cursor = {"cursor": answer.json()["next_cursor"]}


async def walk(api: Api, collection: str, **params: Any) -> list[Json]:
    found: list[Json] = []
    cursor: Json = {}
    while True:
        answer = await api.client.get(f"/v1/collections/{collection}/documents", params=params | cursor)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"documents", "next_cursor"}
        found += answer.json()["documents"]
        if answer.json()["next_cursor"] is None:
            return found
        cursor = {"cursor": answer.json()["next_cursor"]}


def served(document: Json, name: str) -> Any:
    return document[name] if document["indexed_version"] is not None else None


def mixed(document: Json) -> Any:
    value = (served(document, "attributes") or {}).get("mixed")
    if type(value) not in MIXED or (isinstance(value, str) and len(value.encode()) > 2_000):
        return None
    return MIXED[type(value)], value


def title(document: Json) -> Any:
    found = served(document, "title")
    return None if found is None else found[:512]


def time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


KEYS: dict[str, Callable[[Json], Any]] = {
    "created_at": lambda d: time(d["created_at"]),
    "updated_at": lambda d: time(d["updated_at"]),
    "published_at": lambda d: time(served(d, "published_at")),
    "title": title,
    "external_id": lambda d: d["external_id"],
    "attributes.mixed": mixed,
    "attributes.deep.n": lambda d: ((served(d, "attributes") or {}).get("deep") or {}).get("n"),
    "attributes.unknown": lambda _: None,
}
FILTERS: dict[str, tuple[Json | None, Callable[[Json], bool]]] = {
    "all": (None, lambda _: True),
    "tag": ({"tags": "t1"} | {"tags": {"$contains": "t1"}}, lambda d: "t1" in (served(d, "tags") or [])),
    "declared": (
        {"attributes.deep.n": {"$gte": 3}},
        lambda d: ((served(d, "attributes") or {}).get("deep") or {}).get("n", -1) >= 3,
    ),
    "missing": ({"title": {"$exists": False}}, lambda d: served(d, "title") is None),
    "none": ({"source": "x"}, lambda _: False),
}


def ordered(documents: list[Json], sort: str) -> list[str]:
    key, falling = KEYS[sort.removeprefix("-")], sort.startswith("-")
    by_id = sorted(documents, key=lambda d: d["id"], reverse=falling)
    known = sorted((d for d in by_id if key(d) is not None), key=key, reverse=falling)
    return [d["id"] for d in [*known, *(d for d in by_id if key(d) is None)]]


@pytest.mark.parametrize("choice", FILTERS)
@pytest.mark.parametrize("sort", [minus + name for name in KEYS for minus in ("", "-")])
async def test_documents_come_in_the_order_that_was_asked_for(api: Api, shelf: str, sort: str, choice: str) -> None:
    wanted, passes = FILTERS[choice]
    params = {"sort": sort} | ({} if wanted is None else {"filter": json.dumps(wanted)})
    expected = ordered([each for each in await every(api, shelf) if passes(each)], sort)

    for limit in (7, 100):
        assert [each["id"] for each in await walk(api, shelf, limit=limit, **params)] == expected


@pytest.mark.parametrize("choice", FILTERS)
async def test_without_an_order_the_newest_come_first(api: Api, shelf: str, choice: str) -> None:
    wanted, passes = FILTERS[choice]
    expected = [each["id"] for each in await every(api, shelf) if passes(each)]

    assert [each["id"] for each in await walk(api, shelf, limit=7, filter=json.dumps(wanted or {}))] == expected


@pytest.mark.parametrize("status", ["pending", "indexed", "failed"])
@pytest.mark.parametrize("sort", [None, "external_id", "-title"])
async def test_a_status_narrows_what_a_filter_leaves(api: Api, shelf: str, status: str, sort: str | None) -> None:
    wanted = {"$not": {"tags": {"$contains": "t1"}}}
    params = {"filter": json.dumps(wanted), "status": status} | ({} if sort is None else {"sort": sort})
    left = [e for e in await every(api, shelf) if e["status"] == status and "t1" not in (served(e, "tags") or [])]

    found = await walk(api, shelf, limit=4, **params)

    assert [each["id"] for each in found] == ([e["id"] for e in left] if sort is None else ordered(left, sort))
    assert len(found) == {"pending": 6, "indexed": 40, "failed": 0}[status]


async def test_a_declared_timestamp_is_ordered_as_a_time(api: Api, shelf: str) -> None:
    assert (
        await api.client.patch(f"/v1/collections/{shelf}", json={"attributes": {"at": "string"}})
    ).status_code == 200

    def string(each: Json) -> Any:
        return (served(each, "attributes") or {}).get("at")

    def moment(each: Json) -> Any:
        return None if string(each) in {None, "2024-05-01"} else datetime.fromisoformat(string(each))

    for type_, key in (("string", string), ("timestamp", moment)):
        await api.client.patch(f"/v1/collections/{shelf}", json={"attributes": {"at": type_}})
        KEYS["attributes.at"] = key
        for sort in ("attributes.at", "-attributes.at"):
            found = [each["id"] for each in await walk(api, shelf, limit=7, sort=sort)]
            assert found == ordered(await every(api, shelf), sort)
    del KEYS["attributes.at"]
    await api.client.patch(f"/v1/collections/{shelf}", json={"attributes": {"at": None}})


async def test_what_is_shown_is_the_newest_version_and_what_is_asked_the_served_one(
    api: Api, resources: Resources, collection: str
) -> None:
    await api.put(collection, "x", {"text": "one", "title": "Old"})
    await settle(api, resources, collection)
    newer = (await api.put(collection, "x", {"text": "two", "title": "New"})).json()

    old = await walk(api, collection, filter='{"title": "Old"}')

    assert old == [newer]
    assert (old[0]["title"], old[0]["status"]) == ("New", "pending")
    assert await walk(api, collection, filter='{"title": "New"}') == []


async def test_a_walk_under_writes_shows_what_was_untouched_exactly_once(
    api: Api, resources: Resources, collection: str
) -> None:
    await api.batch(collection, [{"external_id": str(n), "text": "x", "title": f"t{n % 3}"} for n in range(30)])
    await settle(api, resources, collection)
    params: Json = {"sort": "-title", "limit": 4, "filter": '{"title": {"$exists": true}}'}
    seen: list[str] = []
    deleted, cursor = set(), None
    for turn in range(20):
        answer = await api.client.get(
            f"/v1/collections/{collection}/documents", params=params | ({"cursor": cursor} if cursor else {})
        )
        seen += [each["external_id"] for each in answer.json()["documents"]]
        if (cursor := answer.json()["next_cursor"]) is None:
            break
        await api.batch(collection, [{"external_id": f"new{turn}", "text": "x", "title": "t1"}])
        if turn < 3:
            last = answer.json()["documents"][-1]
            await api.delete(last)  # The very document that the cursor names.
            deleted.add(last["external_id"])

    old = [name for name in seen if not name.startswith("new")]
    assert sorted(old) == sorted(map(str, range(30)))
    assert len(deleted) == 3


@pytest.mark.parametrize(
    ("params", "field"),
    [
        *(
            ({"sort": wrong}, "sort")
            for wrong in ("", "-", "name", "--title", "+title", "title,source", "tags", "Title")
        ),
        *(({"sort": wrong}, "sort") for wrong in ("attributes", "attributes.", "attributes.a..b", "attributes.\0")),
        ({"sort": "attributes." + ".".join("a" * 11)}, "sort"),
        *(({"filter": wrong}, "filter") for wrong in ("", "{", "[]", "5", "NaN", "null")),
        ({"filter": '{"color": 1}'}, "filter.color"),
        ({"filter": '{"attributes.deep.n": "x"}'}, "filter.attributes.deep.n"),
        ({"order": "title"}, "order"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused_by_name(api: Api, shelf: str, params: Json, field: str) -> None:
    assert fields(await api.client.get(f"/v1/collections/{shelf}/documents", params=params)) == [field]


async def test_a_cursor_continues_its_own_list_only(api: Api, shelf: str) -> None:
    url = f"/v1/collections/{shelf}/documents"
    tag, other = '{"tags": {"$contains": "t1"}}', '{"tags": {"$contains": "t2"}}'
    lists: list[Json] = [{}, {"status": "indexed"}]
    lists += [{"sort": sort} for sort in ("title", "-title", "external_id", "attributes.mixed", "-created_at")]
    lists += [
        {"filter": tag},
        {"filter": other},
        {"filter": tag, "sort": "title"},
        {"sort": "title", "status": "indexed"},
    ]
    for one in lists:
        cursor = (await api.client.get(url, params={"limit": 1, **one})).json()["next_cursor"]
        for another in lists:
            answer = await api.client.get(url, params={"limit": 1, **another, "cursor": cursor})
            if one == another:
                assert answer.status_code == 200
            else:
                assert code(answer) == (400, "cursor_mismatch"), (one, another)
    spelled = {"filter": ' {"tags" : {"$contains":"t1"} }'}
    cursor = (await api.client.get(url, params={"limit": 1, "filter": tag})).json()["next_cursor"]
    assert (await api.client.get(url, params={"cursor": cursor, **spelled})).status_code == 200


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("sort", ["created_at", "title", "attributes.mixed", "attributes.deep.n", "published_at"])
async def test_a_cursor_that_somebody_changed_breaks_nothing(
    api: Api, shelf: str, sort: str, *, filtered: bool
) -> None:
    url = f"/v1/collections/{shelf}/documents"
    params: Json = {"sort": sort, "limit": 1} | ({"filter": '{"title": {"$ne": "-"}}'} if filtered else {})
    cursor = (await api.client.get(url, params=params)).json()["next_cursor"]
    list_of, _ = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    broken: list[Any] = [1, "x", [], ["a"], [1, str(new_id())], ["a\0", str(new_id())], [None, "x"], ["a", None], {}]

    for position in broken:
        made = base64.urlsafe_b64encode(json.dumps([list_of, json.dumps(position)]).encode()).rstrip(b"=").decode()
        assert code(await api.client.get(url, params={**params, "cursor": made})) == (400, "malformed"), position
    for value in ("x", "2024-02-31", "1e999999", "{", "infinity", "[1]", None, '"\\u0000"', "99999-01-01"):
        position = json.dumps([value, str(new_id())])
        made = base64.urlsafe_b64encode(json.dumps([list_of, position]).encode()).rstrip(b"=").decode()
        assert (await api.client.get(url, params={**params, "cursor": made})).status_code == 200, value


async def test_a_foreign_collection_is_not_found(other_api: Api, shelf: str) -> None:
    for params in ({"filter": "{}"}, {"sort": "title"}, {"filter": '{"title": "Zebra"}', "sort": "title"}):
        answer = await other_api.client.get(f"/v1/collections/{shelf}/documents", params=params)
        assert code(answer) == (404, "not_found")


async def test_neither_door_shows_a_foreign_tenant_anything(
    api: Api, other_api: Api, resources: Resources, shelf: str
) -> None:
    mine = await collection_of(api, resources, shelf)
    theirs = await collection_of(other_api, resources, await other_api.make_collection())
    wanted, sort = parse_filter({"title": {"$ne": "-"}}, declared={}), parse_sort("title", declared={})

    for collection, some in ((mine, True), (replace(mine, tenant_id=theirs.tenant_id), False)):
        read = await read_ids(collection, wanted, sort, after=None, limit=100, reader=resources.reader)
        async with resources.primary.begin(collection.tenant_id) as connection:
            found = await find_ids(connection, collection, wanted, sort, status=None, after=None, limit=100)
            shown = await find_documents(connection, collection, [each.id for each in read])
        assert bool(read) is bool(shown) is some
        assert read == found
