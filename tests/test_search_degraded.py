"""When a part is missing a search does what it still can, and says so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from fastapi import FastAPI

from service.api.search import open_desk
from service.db.addresses import Address
from service.db.read_asyncpg import AsyncpgReader
from service.domain.errors import OverloadedError, UnavailableError
from service.domain.ids import new_id
from service.embeddings.base import Embedder, Matrix, Vector
from service.embeddings.hashing import HashingEmbedder
from service.resources import Resources
from tests.api_calls import Api, code
from tests.search_calls import fill

VECTOR = [1.0, *[0.0] * 383]


class Down(HashingEmbedder):
    """An embedder whose model is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def embed_query(self, text: str) -> Vector:  # noqa: ARG002  the Protocol's
        raise self.error

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:  # noqa: ARG002
        raise self.error


@pytest.fixture(scope="module")
async def zoo(api: Api, resources: Resources) -> str:
    name = await api.make_collection("zoo")
    await fill(api, resources, name, [{"text": "A growling bear."}, {"text": "A wolf."}])
    return name


@pytest.fixture(params=[UnavailableError("the model is gone"), OverloadedError("too much to embed")], ids=str)
async def broken(app: FastAPI, resources: Resources, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The service without its embedder."""
    whole = app.state.search_desk
    embedder: Embedder = Down(request.param)
    app.state.search_desk = open_desk(replace(resources, embedder=embedder))
    yield
    app.state.search_desk = whole


@pytest.fixture
async def other_model(app: FastAPI, resources: Resources) -> AsyncIterator[None]:
    """The service with another embedding model than the collection has."""
    whole = app.state.search_desk
    profile = replace(resources.profile, id=new_id(), name="another-model")
    app.state.search_desk = open_desk(replace(resources, profile=profile))
    yield
    app.state.search_desk = whole


async def codes(api: Api, collection: str, **body: object) -> tuple[int, list[str]]:
    """How many hits, and the warnings."""
    response = await api.client.post(f"/v1/collections/{collection}/search", json={"query": "bear", **body})
    assert response.status_code == 200, response.text
    found = response.json()
    return len(found["hits"]), [warning["code"] for warning in found["warnings"]]


@pytest.mark.usefixtures("broken")
async def test_without_an_embedder_words_still_find(api: Api, zoo: str) -> None:
    assert await codes(api, zoo) == (1, ["lexical_only"])
    assert await codes(api, zoo, fusion={"method": "rrf"}, filter={"title": {"$exists": False}}) == (
        1,
        ["lexical_only"],
    )
    assert await codes(api, zoo, mode="lexical") == (1, [])
    assert await codes(api, zoo, vector=VECTOR) == (2, [])
    assert await codes(api, zoo, mode="semantic", vector=VECTOR) == (2, [])


@pytest.mark.usefixtures("broken")
async def test_without_an_embedder_meaning_is_not_searched(api: Api, zoo: str) -> None:
    response = await api.client.post(f"/v1/collections/{zoo}/search", json={"query": "bear", "mode": "semantic"})

    assert code(response) in {(503, "unavailable"), (503, "overloaded")}
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("other_model")
async def test_vectors_of_two_models_are_never_compared(api: Api, zoo: str) -> None:
    assert await codes(api, zoo) == (1, ["lexical_only"])
    assert await codes(api, zoo, vector=VECTOR) == (1, ["lexical_only"])
    assert await codes(api, zoo, mode="lexical") == (1, [])
    for body in ({"query": "bear"}, {"vector": VECTOR}):
        response = await api.client.post(f"/v1/collections/{zoo}/search", json={**body, "mode": "semantic"})
        assert code(response) == (503, "unavailable")
        assert "another-model" in response.json()["detail"]


async def test_too_many_searches_are_told_to_come_back(api: Api, app: FastAPI, resources: Resources, zoo: str) -> None:
    whole = app.state.search_desk
    url = resources.settings.search_database_url.get_secret_value()
    tracked = resources.settings.pg_statement_mode == "tracked"
    reader = AsyncpgReader(Address.parse(url, tls="off", ca_file=None), pool_size=1, queue=0, tracked=tracked)
    app.state.search_desk = open_desk(replace(resources, reader=reader))

    request = {"query": "bear"}
    answers = await asyncio.gather(*(api.client.post(f"/v1/collections/{zoo}/search", json=request) for _ in range(10)))
    app.state.search_desk = whole
    await reader.close()

    refused = [answer for answer in answers if answer.status_code != 200]
    assert {code(answer) for answer in refused} == {(503, "overloaded")}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert 0 < len(refused) < 10
