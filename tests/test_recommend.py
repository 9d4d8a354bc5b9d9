"""POST /v1/collections/{name}/recommend, against the same arithmetic in NumPy."""

from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from service.domain.ids import new_id
from service.resources import Resources
from tests.api_calls import Api, Json, code, fields
from tests.search_calls import directions, fill, halves

COUNT = 60
VECTORS = directions(COUNT, seed=11)
KEPT = halves(VECTORS)


@pytest.fixture(scope="module")
async def cloud(api: Api, resources: Resources) -> str:
    """Documents in random directions, each one chunk; `n` counts them."""
    name = await api.make_collection("cloud")
    await fill(
        api,
        resources,
        name,
        [
            {"external_id": str(n), "text": f"point {n}", "vector": vector.tolist(), "attributes": {"n": n}}
            for n, vector in enumerate(VECTORS)
        ],
    )
    return name


async def post(api: Api, collection: str, **body: Any) -> httpx.Response:
    return await api.client.post(f"/v1/collections/{collection}/recommend", json=body)


async def answer(api: Api, collection: str, **body: Any) -> Json:
    response = await post(api, collection, **body)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def names(found: Json) -> list[int]:
    return [int(hit["external_id"]) for hit in found["hits"]]


def named(*numbers: int) -> list[dict[str, str]]:
    return [{"external_id": str(number)} for number in numbers]


def ordered(scores: np.ndarray, without: tuple[int, ...]) -> list[int]:
    return [int(n) for n in np.argsort(-scores) if n not in without]


@pytest.mark.parametrize(
    ("positive", "negative"), [((1,), ()), ((1, 2, 3), ()), ((1,), (4,)), ((1, 2), (4, 5, 6)), ((1, 1, 2), ())]
)
async def test_the_average_of_good_examples_is_moved_away_from_the_bad(
    api: Api, cloud: str, positive: tuple[int, ...], negative: tuple[int, ...]
) -> None:
    near = KEPT[list(positive)].mean(axis=0)
    target = 2 * near - KEPT[list(negative)].mean(axis=0) if negative else near
    cosines = KEPT @ (target / np.linalg.norm(target))

    found = await answer(api, cloud, positive=named(*positive), negative=named(*negative), limit=20)

    expected = ordered(cosines, (*positive, *negative))[:20]
    assert names(found) == expected
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(cosines[expected], abs=2e-3)
    assert (found["next_cursor"], found["warnings"]) == (None, [])


@pytest.mark.parametrize(("positive", "negative"), [((1,), ()), ((1, 2, 3), ()), ((1,), (4,)), ((1, 2), (4, 5, 6))])
async def test_the_best_score_is_the_nearest_good_example_unless_a_bad_one_is_nearer(
    api: Api, cloud: str, positive: tuple[int, ...], negative: tuple[int, ...]
) -> None:
    good = (KEPT @ KEPT[list(positive)].T).max(axis=1)
    bad = (KEPT @ KEPT[list(negative)].T).max(axis=1) if negative else np.full(COUNT, -np.inf)
    scores = np.where(good > bad, good, -np.square(bad))

    found = await answer(
        api, cloud, positive=named(*positive), negative=named(*negative), strategy="best_score", limit=25
    )

    expected = ordered(scores, (*positive, *negative))[:25]
    assert names(found) == expected
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(scores[expected], abs=2e-3)
    assert all(hit["score"] == hit["chunks"][0]["score"] for hit in found["hits"])


@pytest.mark.parametrize("strategy", ["average_vector", "best_score"])
async def test_examples_never_come_back_and_take_no_place(api: Api, cloud: str, strategy: str) -> None:
    body = {"positive": named(*range(20)), "negative": named(*range(20, 30)), "strategy": strategy}

    for limit in (1, 10, 30, 100):
        found = await answer(api, cloud, **body, limit=limit)
        assert len(found["hits"]) == min(limit, COUNT - 30)
        assert set(names(found)).isdisjoint(range(30))


@pytest.mark.parametrize("strategy", ["average_vector", "best_score"])
async def test_a_filter_chooses_what_is_recommended(api: Api, cloud: str, strategy: str) -> None:
    found = await answer(
        api, cloud, positive=named(50), filter={"attributes.n": {"$lt": 9}}, limit=100, strategy=strategy
    )

    assert set(names(found)) == set(range(9))


async def test_an_example_is_named_by_its_id_or_by_its_external_id(api: Api, cloud: str) -> None:
    id_ = (await api.client.get(f"/v1/collections/{cloud}/documents/7")).json()["id"]
    expected = names(await answer(api, cloud, positive=named(7)))

    for way in ("7", id_, id_.upper(), {"id": id_}):
        assert names(await answer(api, cloud, positive=[way])) == expected


async def test_a_long_document_weighs_as_much_as_a_short_one(api: Api, resources: Resources, collection: str) -> None:
    words = ["heron", "falcon", "otter", "badger"]
    short = [f"The {word} waits. " * 20 for word in words]
    long = " ".join(f"The {word} waits. " * 150 for word in words)
    texts = {**dict(zip(words, short, strict=True)), "long": long, "bear": "A bear sleeps in the winter."}
    await fill(api, resources, collection, [{"external_id": name, "text": text} for name, text in texts.items()])
    url = f"/v1/collections/{collection}/documents/long"
    id_ = (await api.client.get(url)).json()["id"]
    chunks = [each["text"] for each in (await api.client.get(f"/v1/documents/{id_}/chunks")).json()["chunks"]]
    mean = halves(await resources.embedder.embed_passages(chunks)).mean(axis=0)
    bear, *others = halves(await resources.embedder.embed_passages([texts["bear"], *short]))
    target = mean / np.linalg.norm(mean) + bear
    cosines = dict(zip(words, np.array(others) @ (target / np.linalg.norm(target)), strict=True))

    found = await answer(api, collection, positive=["long", "bear"])

    assert np.linalg.norm(mean) < 0.95
    for hit in found["hits"]:
        assert hit["score"] == pytest.approx(cosines[hit["external_id"]], abs=2e-3)


async def test_an_external_id_that_looks_like_an_id_is_found_by_its_text(
    api: Api, resources: Resources, collection: str
) -> None:
    text = str(new_id())
    texts = [{"external_id": text, "text": "A bear."}, {"external_id": "b", "text": "A bear."}]
    await fill(api, resources, collection, texts)

    for way in (text, {"external_id": text}):
        assert [hit["external_id"] for hit in (await answer(api, collection, positive=[way]))["hits"]] == ["b"]
    assert code(await post(api, collection, positive=[{"id": text}])) == (404, "not_found")


@pytest.mark.parametrize("strategy", ["average_vector", "best_score"])
async def test_as_many_chunks_are_shown_as_were_asked_for(
    api: Api, resources: Resources, collection: str, strategy: str
) -> None:
    words = ["heron", "falcon", "otter", "badger"]
    long = " ".join(f"The {word} waits. " * 200 for word in words)
    examples = [{"external_id": word, "text": f"The {word} waits. " * 20} for word in words]
    await fill(api, resources, collection, [{"external_id": "long", "text": long}, *examples])

    for wanted in (1, 2, 10):
        (hit,) = (await answer(api, collection, positive=words, strategy=strategy, chunks_per_document=wanted))["hits"]
        scores = [chunk["score"] for chunk in hit["chunks"]]
        assert len(hit["chunks"]) == wanted
        assert scores == sorted(scores, reverse=True)
        assert hit["score"] == scores[0]


@pytest.mark.parametrize("place", ["positive", "negative"])
async def test_an_example_that_is_not_there_is_named(api: Api, other_api: Api, cloud: str, place: str) -> None:
    elsewhere = await api.make_document(await api.make_collection(), external_id="elsewhere")
    foreign = await other_api.make_document(await other_api.make_collection(), external_id="foreign")
    missing = [str(new_id()), elsewhere["id"], foreign["id"], {"external_id": "elsewhere"}, {"id": "7"}, "unknown"]

    for example in missing:
        body = {"positive": named(1, 2), "negative": named(3)}
        body[place] = [*body[place], example]
        response = await post(api, cloud, **body)
        assert code(response) == (404, "not_found"), example
        assert f"{place}.{len(body[place]) - 1}: " in response.json()["detail"]


async def test_an_example_that_is_not_indexed_yet_is_a_conflict(api: Api, cloud: str) -> None:
    waiting = await api.make_document(cloud)

    response = await post(api, cloud, positive=named(1), negative=[waiting["id"]])

    assert code(response) == (409, "in_progress")
    assert "negative.0" in response.json()["detail"]
    await api.delete(waiting)


NO_EXAMPLES: list[Any] = [1, None, [], {}, "", "a\0", "a" * 513, {"id": 1}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "positive"),
        ({"positive": []}, "positive"),
        ({"positive": None}, "positive"),
        ({"positive": "1"}, "positive"),
        ({"positive": ["1"] * 101}, "positive"),
        ({"positive": ["1"], "negative": ["2"] * 101}, "negative"),
        *(({"positive": [wrong]}, "positive.0") for wrong in NO_EXAMPLES),
        ({"positive": [{"id": "1", "external_id": "1"}]}, "positive.0"),
        ({"positive": [{"name": "1"}]}, "positive.0"),
        ({"positive": ["1"], "strategy": "best"}, "strategy"),
        ({"positive": ["1"], "limit": 0}, "limit"),
        ({"positive": ["1"], "limit": 101}, "limit"),
        ({"positive": ["1"], "filter": {"color": 1}}, "filter.color"),
        ({"positive": ["1"], "group_by": "document"}, "group_by"),
        ({"positive": ["1"], "chunks_per_document": 11}, "chunks_per_document"),
        ({"positive": ["1"], "params": {"x": 1}}, "params.x"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused_by_name(api: Api, cloud: str, body: Json, field: str) -> None:
    assert fields(await post(api, cloud, **body)) == [field]


async def test_a_hundred_examples_are_taken(api: Api, cloud: str) -> None:
    examples = [str(n % 20) for n in range(60)]

    for strategy in ("average_vector", "best_score"):
        found = await answer(
            api, cloud, positive=examples, negative=[str(30 + n % 5) for n in range(40)], strategy=strategy
        )
        assert len(found["hits"]) == 10


async def test_the_mean_of_opposites_points_nowhere(api: Api, resources: Resources, collection: str) -> None:
    await fill(
        api,
        resources,
        collection,
        [
            {"external_id": str(n), "text": "x", "vector": [sign, *[0.0] * 383]}
            for n, sign in enumerate((1.0, -1.0, 1.0))
        ],
    )

    assert (await answer(api, collection, positive=["0", "1"]))["hits"] == []


@pytest.mark.parametrize("name", ["unknown", "UPPER"])
async def test_an_unknown_collection_is_not_found(api: Api, other_api: Api, cloud: str, name: str) -> None:
    assert code(await post(api, name, positive=["1"])) == (404, "not_found")
    assert code(await post(other_api, cloud, positive=["1"])) == (404, "not_found")


async def test_a_declaration_counts_at_once(api: Api, resources: Resources) -> None:
    name = await api.make_collection()
    await fill(api, resources, name, [{"external_id": e, "text": "bear", "attributes": {"n": "5"}} for e in "ab"])
    wanted: Json = {"positive": ["a"], "filter": {"attributes.n": "5"}}
    assert len((await answer(api, name, **wanted))["hits"]) == 1

    await api.client.patch(f"/v1/collections/{name}", json={"attributes": {"n": "integer"}})

    assert fields(await post(api, name, **wanted)) == ["filter.attributes.n"]


async def test_nothing_stays_in_the_lane(api: Api, app: FastAPI, cloud: str) -> None:
    await answer(api, cloud, positive=named(1, 2, 3), strategy="best_score")

    assert app.state.search_lane._inside == 0
