"""POST /v1/collections/{name}/search, line by line of the contract."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.resources import Resources
from tests.api_calls import Api, Json, code, fields
from tests.search_calls import fill

VECTOR = [1.0, *[0.0] * 383]
DOCUMENT = {
    "external_id": "a/1",
    "title": "Bears",
    "text": "Growling bears chase a running man.",
    "source": "zoo",
    "tags": ["b", "a"],
    "published_at": "2024-05-01T12:00:00+02:00",
    "attributes": {"year": 2024, "nested": {"x": [1, None, "é"]}, "large": 9007199254740993},
}

LONG = {"text": "A heron stands and waits. " * 200}


@pytest.fixture(scope="module")
async def zoo(api: Api, resources: Resources) -> str:
    name = await api.make_collection("zoo")
    await fill(api, resources, name, [DOCUMENT, {"text": "A bear alone."}, {"title": "Wolf", "text": ""}, LONG])
    return name


async def post(api: Api, collection: str, **body: Any) -> httpx.Response:
    return await api.client.post(f"/v1/collections/{collection}/search", json=body)


async def answer(api: Api, collection: str, **body: Any) -> Json:
    response = await post(api, collection, **body)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def test_an_answer_has_exactly_these_fields(api: Api, zoo: str) -> None:
    found = await answer(api, zoo, query="growling bears", limit=1)
    hit = found["hits"][0]
    chunk = hit["chunks"][0]

    assert set(found) == {"hits", "next_cursor", "profile", "warnings", "took_ms"}
    assert (found["profile"], found["warnings"]) == ("hashing-384", [])
    assert isinstance(found["next_cursor"], str)
    assert isinstance(found["took_ms"], float)
    assert set(hit) == {
        *("document_id", "external_id", "title", "score", "source", "tags", "published_at", "attributes", "chunks")
    }
    assert (hit["external_id"], hit["title"], hit["source"], hit["tags"]) == ("a/1", "Bears", "zoo", ["b", "a"])
    assert hit["published_at"] == "2024-05-01T10:00:00Z"
    assert hit["attributes"] == DOCUMENT["attributes"]
    assert set(chunk) == {"chunk_id", "ordinal", "text", "score", "char_start", "char_end", "page"}
    assert (chunk["ordinal"], chunk["char_start"], chunk["char_end"], chunk["page"]) == (0, 0, 35, None)
    assert chunk["text"] == DOCUMENT["text"]
    assert isinstance(hit["score"], float)
    assert hit["score"] == chunk["score"]


async def test_a_hit_is_the_document_and_the_chunk_that_other_routes_show(api: Api, zoo: str) -> None:
    for hit in (await answer(api, zoo, query="bear wolf"))["hits"]:
        document = await api.get({"id": hit["document_id"]})
        names = hit.keys() & document.keys()
        assert {name: hit[name] for name in names} == {name: document[name] for name in names}
        chunks = (await api.client.get(f"/v1/documents/{document['id']}/chunks")).json()["chunks"]
        shown = [{name: value for name, value in chunk.items() if name != "score"} for chunk in hit["chunks"]]
        assert sorted(shown, key=lambda chunk: chunk["ordinal"]) == [c for c in chunks if c in shown]
        assert len(shown) == min(len(chunks), 3)


async def test_null_is_absent_except_where_it_says_something(api: Api, zoo: str) -> None:
    plain = await answer(api, zoo, query="bear")
    names = ("mode", "limit", "cursor", "filter", "chunks_per_document", "vector", "fusion", "params")
    nulls = dict.fromkeys((*names, "score_threshold", "facets", "highlight", "include"))
    inner = {"fusion": dict.fromkeys(("method", "alpha", "weights", "k", "window"))}
    inner["params"] = dict.fromkeys(("ef_search", "exact", "budget", "timeout_ms"))

    bodies: list[dict[str, Any]] = [nulls, inner, {"fusion": {"weights": {"lexical": None, "semantic": None}}}]
    for body in (*bodies, {"filter": {}}):
        assert (await answer(api, zoo, query="bear", **body))["hits"] == plain["hits"]

    heron = {"query": "heron", "mode": "lexical"}
    (whole,) = (await answer(api, zoo, **heron))["hits"]
    pieces = (await answer(api, zoo, **heron, group_by=None))["hits"]
    assert len(pieces) > 3
    assert {(piece["document_id"], len(piece["chunks"])) for piece in pieces} == {(whole["document_id"], 1)}
    assert len(whole["chunks"]) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"queries": "x"}, "queries"),
        ({"cursor": 5}, "cursor"),
        ({"facets": "tags"}, "facets"),
        ({"facets": ["chunks"]}, "facets"),
        ({"facets": ["attributes."]}, "facets"),
        ({"facets": ["tags"] * 21}, "facets"),
        *(({"highlight": wrong}, "highlight") for wrong in ("yes", 1, False)),
        ({"highlight": {"tag": "<b>"}}, "highlight.tag"),
        ({"include": ["everything"]}, "include.0"),
        *(({"score_threshold": wrong}, "score_threshold") for wrong in ("0.5", True)),
        ({"boost": {"recency": {}}}, "boost.recency.half_life_days"),
        ({"boost": {"recency": {"half_life_days": 0}}}, "boost.recency.half_life_days"),
        *(({"mmr": {"diversity": wrong}}, "mmr.diversity") for wrong in (-0.1, 1.1)),
        *(({"rerank": {"top_n": wrong}}, "rerank.top_n") for wrong in (0, 201)),
        ({"fusion": {"cursor": None}}, "fusion.cursor"),
        ({"fusion": {"beta": 1}}, "fusion.beta"),
        ({"params": {"x": None}}, "params.x"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"query": " \t\n"}, "query"),
        ({"query": "-bear"}, "query"),
        ({"query": 5}, "query"),
        ({"query": "a" * 10_001}, "query"),
        ({"query": "a\0b"}, "query"),
        ({"mode": "keyword"}, "mode"),
        ({"group_by": "chunk"}, "group_by"),
        ({"filter": []}, "filter"),
        ({"filter": {"color": 1}}, "filter.color"),
        *(({"limit": wrong}, "limit") for wrong in (0, 101, -1, "10", True, 1.5)),
        *(({"chunks_per_document": wrong}, "chunks_per_document") for wrong in (0, 11, "3")),
        *(({"fusion": {"alpha": wrong}}, "fusion.alpha") for wrong in (-0.1, 1.1, "0.5", True)),
        *(({"fusion": {"k": wrong}}, "fusion.k") for wrong in (0, -1, "60")),
        *(({"fusion": {"window": wrong}}, "fusion.window") for wrong in (0, 1_001, "9", 1.5)),
        *(({"fusion": {"method": wrong}}, "fusion.method") for wrong in ("max", 1)),
        *(({"fusion": {"weights": {"lexical": wrong}}}, "fusion.weights.lexical") for wrong in (-1, "1", True)),
        ({"fusion": "rrf"}, "fusion"),
        *(({"params": {"ef_search": wrong}}, "params.ef_search") for wrong in (0, 1_001, "40")),
        *(({"params": {"exact": wrong}}, "params.exact") for wrong in (1, "true")),
        *(({"params": {"budget": wrong}}, "params.budget") for wrong in (0, -1, 10**12)),
        *(({"params": {"timeout_ms": wrong}}, "params.timeout_ms") for wrong in (0, -1, 60_001, 0.5)),
        *(({"vector": wrong}, "vector") for wrong in ([], [1.0], VECTOR[1:], [*VECTOR, 0.0], [0.0] * 384, "x", 5)),
        *(({"vector": [wrong, *VECTOR[1:]]}, "vector.0") for wrong in ("1", None, True)),
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused_by_name(api: Api, zoo: str, body: dict[str, Any], field: str) -> None:
    response = await post(api, zoo, **{"query": "bear", **body})

    assert field in [name.removeprefix("body.") for name in fields(response)], response.text


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"query": "bear", "vector": [NaN]}', 400),
        (b'{"query": "bear", "fusion": {"alpha": Infinity}}', 400),
        (b'{"query": "a\\u0000b"}', 422),
        (b'{"query": "a\\ud800b"}', 422),
        (b'{"query": "bear"', 400),
        (b'{"query": "\xff"}', 400),
        (b'["bear"]', 422),
        (b"", 400),
    ],
)
async def test_bytes_that_are_no_request_are_refused(api: Api, zoo: str, raw: bytes, status: int) -> None:
    response = await api.client.post(
        f"/v1/collections/{zoo}/search", content=raw, headers={"Content-Type": "application/json"}
    )

    assert code(response)[0] == status


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 100, "chunks_per_document": 10},
        {"limit": 1, "chunks_per_document": 1},
        {"limit": 10.0, "fusion": {"window": 1e3}, "params": {"budget": 1.0}},
        {"fusion": {"alpha": 0, "window": 1, "k": 1}},
        {"fusion": {"alpha": 1.0, "window": 1_000, "k": 0.5, "weights": {"lexical": 0, "semantic": 1.5}}},
        {"params": {"ef_search": 1, "exact": True, "budget": 1, "timeout_ms": 60_000}},
        {"params": {"ef_search": 1_000, "exact": False, "budget": 100_000_000, "timeout_ms": 5_000}},
        {"query": "a" * 10_000},
        {"mode": "lexical", "vector": VECTOR},
    ],
    ids=str,
)
async def test_the_limits_themselves_are_accepted(api: Api, zoo: str, body: dict[str, Any]) -> None:
    found = await answer(api, zoo, **{"query": "bear", **body})

    assert isinstance(found["hits"], list)


async def test_a_vector_takes_the_place_of_the_question(api: Api, zoo: str) -> None:
    axis = await answer(api, zoo, vector=VECTOR, mode="semantic")

    for length in (2, 1e-30, 1e30, 1e300, 5e-324):
        assert (await answer(api, zoo, vector=[length, *VECTOR[1:]], mode="semantic"))["hits"] == axis["hits"]
    assert len(axis["hits"]) == 4
    hybrid = await answer(api, zoo, query="wolf", vector=VECTOR, fusion={"alpha": 1})
    assert [hit["document_id"] for hit in hybrid["hits"]] == [hit["document_id"] for hit in axis["hits"]]
    assert fields(await post(api, zoo, vector=VECTOR)) == ["query"]
    assert all(math.isfinite(hit["score"]) for hit in axis["hits"])


@pytest.mark.parametrize("name", ["unknown", "UPPER", "a b", "%00", "a" * 64])
async def test_an_unknown_collection_is_not_found(api: Api, name: str) -> None:
    assert code(await post(api, name, query="bear")) == (404, "not_found")


async def test_a_query_parameter_is_refused(api: Api, zoo: str) -> None:
    response = await api.client.post(f"/v1/collections/{zoo}/search?limit=5", json={"query": "bear"})

    assert fields(response) == ["limit"]


@pytest.fixture
async def phoenix(api: Api, resources: Resources) -> AsyncIterator[str]:
    name = await api.make_collection("phoenix")
    await fill(
        api, resources, name, [{"text": "old bear", "attributes": {"at": "2024-01-01T00:00:00+02:00", "n": "5"}}]
    )
    yield name
    await api.client.delete(f"/v1/collections/{name}")


async def test_a_collection_made_anew_is_found_at_once(api: Api, resources: Resources, phoenix: str) -> None:
    assert len((await answer(api, phoenix, query="bear"))["hits"]) == 1

    await api.client.delete(f"/v1/collections/{phoenix}")
    assert code(await post(api, phoenix, query="bear")) == (404, "not_found")
    await api.make_collection(phoenix)
    assert (await answer(api, phoenix, query="bear"))["hits"] == []
    await fill(api, resources, phoenix, [{"text": "new bear"}])
    (hit,) = (await answer(api, phoenix, query="bear"))["hits"]
    assert hit["chunks"][0]["text"] == "new bear"


async def test_a_collection_made_anew_is_found_by_many_at_once(api: Api, resources: Resources, phoenix: str) -> None:
    await answer(api, phoenix, query="bear")
    await api.client.delete(f"/v1/collections/{phoenix}")
    await api.make_collection(phoenix)
    await fill(api, resources, phoenix, [{"text": "new bear"}])

    answers = await asyncio.gather(*[answer(api, phoenix, query="bear") for _ in range(8)])

    assert {hits["hits"][0]["chunks"][0]["text"] for hits in answers} == {"new bear"}


async def test_a_declaration_counts_at_once(api: Api, phoenix: str) -> None:
    before = {"attributes.at": {"$lt": "2023-12-31T23:00:00Z"}}
    assert (await answer(api, phoenix, query="bear", filter=before))["hits"] == []  # As strings, 2024 comes later.

    declared = {"attributes": {"at": "timestamp"}}
    assert (await api.client.patch(f"/v1/collections/{phoenix}", json=declared)).status_code == 200
    assert len((await answer(api, phoenix, query="bear", filter=before))["hits"]) == 1
    assert fields(await post(api, phoenix, query="bear", filter={"attributes.at": 5})) == ["filter.attributes.at"]

    declared = {"attributes": {"n": "integer"}}
    assert (await api.client.patch(f"/v1/collections/{phoenix}", json=declared)).status_code == 200
    assert fields(await post(api, phoenix, query="bear", filter={"attributes.n": "5"})) == ["filter.attributes.n"]


async def test_a_search_beyond_its_time_says_when_to_come_back(api: Api, app: FastAPI, zoo: str) -> None:
    response = await post(
        api, zoo, query=" ".join(f'"w{n} bear"' for n in range(700)), params={"timeout_ms": 1}, fusion={"window": 1_000}
    )

    assert code(response) == (503, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    assert app.state.search_desk.tools.reader.driver == "asyncpg"
