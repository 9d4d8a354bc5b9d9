import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.problems import STATUS, trouble_of
from service.domain import errors
from service.domain.ids import new_id
from service.settings import Settings
from tests.api_calls import Api, code, fields
from tests.database_doors import as_admin

OPEN_ROUTES = ("/livez", "/readyz", "/openapi.json", "/docs")


@pytest.mark.parametrize("path", OPEN_ROUTES)
async def test_some_routes_need_no_key(app: FastAPI, path: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as anonymous:
        answer = await anonymous.get(path)

    assert answer.status_code == 200
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer x", "Basic eDp5", f"Bearer hs_{'a' * 43}", "Bearer hs_\xe9" + "a" * 42],
)
async def test_every_other_route_needs_a_live_key(app: FastAPI, authorization: str | None) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as stranger:
        for method, path in every_route(app):
            answer = await stranger.request(method, path, params={"unknown": "x"})
            assert code(answer) == (401, "unauthorized"), path
            assert answer.headers["www-authenticate"] == "Bearer"


def every_route(app: FastAPI) -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    filled = {path: re.sub(r"\{[^}]+\}", str(new_id()), path) for path in paths if path.startswith("/v1")}
    routes = [(method.upper(), url) for path, url in filled.items() for method in paths[path]]
    assert len(routes) >= 20
    return routes


async def test_the_scheme_is_written_in_any_case(api: Api) -> None:
    key = api.client.headers["authorization"].partition(" ")[2]

    assert (await api.client.get("/v1/collections", headers={"Authorization": f"bearer {key}"})).status_code == 200


async def test_a_revoked_key_stops_working_within_five_seconds(
    connect: Callable[[str], Awaitable[Api]], settings: Settings
) -> None:
    api = await connect("revoked")
    assert (await api.client.get("/v1/collections")).status_code == 200
    async with as_admin(settings) as admin:
        await admin.execute(
            "update api_keys set revoked_at = now() where tenant_id in (select id from tenants where name = 'revoked')"
        )

    await asyncio.sleep(5.1)

    assert code(await api.client.get("/v1/collections")) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/collections/", "/v1/nothing", "/metric", "/v1/documents"])
async def test_an_unknown_route_is_a_problem_too(api: Api, path: str) -> None:
    answer = await api.client.get(path)

    assert code(answer) == (404, "not_found")
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/collections", "GET, HEAD, POST"),
        ("POST", "/v1/collections/x", "DELETE, GET, HEAD, PATCH"),
        ("DELETE", "/v1/collections/x/documents", "GET, HEAD, POST"),
        ("GET", "/v1/collections/x/documents:batch", "POST"),
        ("POST", "/v1/collections/x/documents/y", "DELETE, GET, HEAD, PATCH, PUT"),
        ("PUT", "/v1/documents/x", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/v1/documents/x:retry", "POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("TRACE", "/v1/collections", "GET, HEAD, POST"),
    ],
)
async def test_a_wrong_method_names_the_right_ones(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.client.request(method, path)

    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


async def test_a_head_is_a_get_without_its_body(api: Api, collection: str) -> None:
    document = await api.make_document(collection)
    file = await api.make_file(collection, b"x" * 1_000)
    for url in (
        "/livez",
        "/v1/collections",
        f"/v1/collections/{collection}/status",
        f"/v1/documents/{document['id']}",
        f"/v1/documents/{document['id']}/content",
        f"/v1/documents/{file['id']}/content?stream=true",
        f"/v1/documents/{new_id()}",
    ):
        got, headed = await api.client.get(url), await api.client.head(url)

        assert headed.content == b""
        assert headed.status_code == got.status_code
        varying = {"x-request-id"} | ({"content-length"} if got.status_code == 404 else set())
        for name in got.headers.keys() - varying:
            assert headed.headers[name] == got.headers[name]


async def test_a_sane_request_id_is_kept_and_any_other_replaced(api: Api) -> None:
    for sent, kept in (("abc-123.X:/+=_", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("", False)):
        answer = await api.client.get("/v1/collections", headers={"X-Request-Id": sent})

        assert (answer.headers["x-request-id"] == sent) is kept
        assert answer.headers["x-request-id"]


async def test_every_route_refuses_unknown_and_repeated_parameters_by_name(api: Api, app: FastAPI) -> None:
    for method, path in every_route(app):
        answer = await api.client.request(method, path, params={"unknown": "x"})
        assert fields(answer) == ["unknown"], path
    repeated = await api.client.get("/v1/collections", params={"limit": [1, 2]})
    assert fields(repeated) == ["limit"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b"\xff", b'{"name": "x"} trailing', b'{"name": NaN}', b"[" * 100_000]
)
async def test_what_is_not_json_is_malformed(api: Api, body: bytes) -> None:
    answer = await api.client.post("/v1/collections", content=body, headers={"Content-Type": "application/json"})

    assert code(answer) == (400, "malformed")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"1", b'{"name": "x", "nme": 1}', b'{"na\\ud800me": 1}'])
async def test_json_that_is_no_request_is_invalid(api: Api, body: bytes) -> None:
    answer = await api.client.post("/v1/collections", content=body, headers={"Content-Type": "application/json"})

    assert code(answer) == (422, "invalid")


async def test_every_wrong_field_is_named_at_once(api: Api, collection: str) -> None:
    answer = await api.post(collection, {"text": 1, "title": 2, "tags": ["a", 3], "more": 4})

    assert sorted(fields(answer)) == ["more", "tags.1", "text", "title"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_a_json_route_takes_json(api: Api, content_type: str) -> None:
    answer = await api.client.post("/v1/collections", content=b"{}", headers={"Content-Type": content_type})

    assert code(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize("id_", ["x", "0", "00000000-0000-0000-0000-000000000000", "%00", "{x}", "x" * 5_000])
async def test_an_ill_formed_id_is_not_found(api: Api, id_: str) -> None:
    for path in ("", "/chunks", "/content"):
        assert code(await api.client.get(f"/v1/documents/{id_}{path}")) == (404, "not_found")
    for path in ("", "/status", "/documents"):
        assert code(await api.client.get(f"/v1/collections/{id_}{path}")) == (404, "not_found")


def test_every_error_of_the_domain_has_a_status_or_is_ours_to_explain() -> None:
    internal = {errors.BlobNotFoundError, errors.BlobCorruptError, errors.ExtractionError}
    all_errors = {each for each in vars(errors).values() if isinstance(each, type)} - {errors.ServiceError}

    assert all_errors == STATUS.keys() | internal
    assert (trouble_of(errors.OverloadedError("busy")).status, trouble_of(ValueError("secret")).code) == (
        503,
        "internal",
    )
    assert "secret" not in trouble_of(ValueError("secret")).detail


async def one_of_each(api: Api, collection: str) -> dict[str, Any]:
    """One real answer of each kind, by its name in /openapi.json."""
    document = await api.make_document(collection, wait=60)
    url = f"/v1/collections/{collection}"
    answers = {
        "Document": document,
        "Collection": (await api.client.get(url)).json(),
        "Collections": (await api.client.get("/v1/collections")).json(),
        "Documents": (await api.client.get(f"{url}/documents")).json(),
        "Chunks": (await api.client.get(f"/v1/documents/{document['id']}/chunks")).json(),
        "CollectionStatus": await api.status(collection),
        "Problem": (await api.post(collection, {})).json(),
    }
    answers["Chunk"] = answers["Chunks"]["chunks"][0]
    return answers


@pytest.mark.usefixtures("worker")
async def test_the_documented_answers_are_the_real_ones(app: FastAPI, api: Api, collection: str) -> None:
    documented = await one_of_each(api, collection)
    schemas = app.openapi()["components"]["schemas"]

    for name, answer in documented.items():
        assert answer.keys() == schemas[name]["properties"].keys()


async def test_every_route_documents_its_key_and_its_problems(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            if path.startswith("/v1"):
                assert operation["security"] == [{"HTTPBearer": []}]
                assert {"401", "422", "503"} <= operation["responses"].keys() or path.endswith("/search")
