"""A search past the framework's routing answers what it would answer through it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api import search
from service.api.direct import ShortWay
from service.app import create_app
from service.settings import Settings
from tests.api_calls import Api

CHANGING = {"took_ms", "request_id"}
TOLD = {"content-type", "www-authenticate", "allow", "cache-control", "x-read-from"}
SEARCH = {"query": "bear", "limit": 2}


@pytest.fixture
async def through_the_framework(settings: Settings, api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Where spans are sent, the framework's routing names them; here to nobody."""
    app = create_app(settings.model_copy(update={"otel_exporter_otlp_endpoint": "http://127.0.0.1:9"}))
    assert "ShortWay" not in str(app.user_middleware)
    headers = {"Authorization": api.client.headers["Authorization"]}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url=str(api.client.base_url), headers=headers
        ) as client,
    ):
        yield client


async def nowhere(scope: Scope, _receive: Receive, send: Send) -> None:
    """What stands for the framework, and can be told from it."""
    await Response(status_code=418)(scope, _receive, send)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/collections/zoo/search", 401),
        ("GET", "/v1/collections/zoo/search", 418),
        ("POST", "/v1/collections/zoo/search:batch", 418),
        ("POST", "/v1/collections/zoo/documents", 418),
    ],
)
async def test_a_search_takes_it_and_nothing_else(settings: Settings, method: str, path: str, status: int) -> None:
    assert "ShortWay" in str(create_app(settings).user_middleware)
    app = ShortWay(nowhere, routes=search.router.routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.request(method, path)).status_code == status


def comparable(answer: httpx.Response) -> tuple[int, object, dict[str, str]]:
    body: Any = orjson.loads(answer.content) if answer.content else None
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name not in CHANGING}
    return answer.status_code, body, {name: value for name, value in answer.headers.items() if name in TOLD}


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"json": SEARCH}, 200),
        ({"json": {**SEARCH, "cursor": "x"}}, 400),
        ({"content": b"{"}, 400),
        ({"json": SEARCH, "headers": {"Authorization": "Bearer hs_none"}}, 401),
        ({"json": SEARCH, "headers": {"Authorization": ""}}, 401),
        ({"json": SEARCH, "url": "/v1/collections/none/search"}, 404),
        ({"json": SEARCH, "url": "/v1/collections/a%2Fb/search"}, 404),
        ({"json": SEARCH, "url": "/v1/collections//search"}, 404),
        ({"json": SEARCH, "url": "/v1/collections/none/search/"}, 404),
        ({"json": SEARCH, "method": "GET"}, 405),
        ({"json": SEARCH, "method": "PUT"}, 405),
        ({"content": b" " * 17_000_000}, 413),
        ({"json": {**SEARCH, "filter": {"source": {"$in": [str(n) * 1000 for n in range(100, 1_000)]}}}}, 200),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": {"limit": 0}}, 422),
        ({"json": SEARCH, "params": {"limit": 2}}, 422),
    ],
    ids=range(16),
)
async def test_both_ways_give_one_answer(
    api: Api, through_the_framework: httpx.AsyncClient, asked: dict[str, Any], status: int
) -> None:
    collection = await api.make_collection()
    await api.make_document(collection, text="A bear sleeps.", external_id="bear")
    request = {"method": "POST", "url": f"/v1/collections/{collection}/search", **asked}

    short = await api.client.request(**request)
    long = await through_the_framework.request(**request)

    assert short.status_code == status
    assert comparable(short) == comparable(long)
