"""What every route with a body says of a body that it does not take."""

import gzip

import pytest

from tests.api_calls import Api, code

JSON, PATCH, NDJSON = "application/json", "application/merge-patch+json", "application/x-ndjson"
SEARCH = b'{"query": "bear"}'
# method, path, a type that it takes
ROUTES = [
    ("POST", "/v1/collections", JSON),
    ("PATCH", "/v1/collections/{name}", PATCH),
    ("POST", "/v1/collections/{name}/documents", JSON),
    ("POST", "/v1/collections/{name}/documents", "text/plain"),
    ("POST", "/v1/collections/{name}/documents", "multipart/form-data; boundary=b"),
    ("PUT", "/v1/collections/{name}/documents/x", JSON),
    ("PATCH", "/v1/collections/{name}/documents/x", JSON),
    ("POST", "/v1/collections/{name}/documents:batch", NDJSON),
    ("POST", "/v1/collections/{name}/search", JSON),
]


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "x"])
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_no_route_takes_an_encoded_body(
    api: Api, collection: str, route: tuple[str, str, str], encoding: str
) -> None:
    await api.make_document(collection, external_id="x")
    method, path, content_type = route
    headers = {"Content-Type": content_type, "Content-Encoding": encoding, "If-Match": "*"}
    url = path.format(name=collection)

    answer = await api.client.request(method, url, content=gzip.compress(b"{}"), headers=headers)

    assert code(answer) == (415, "unsupported_media_type")


async def test_an_encoding_that_changes_nothing_is_none(api: Api, collection: str) -> None:
    for encoding in ("identity", "Identity", ""):
        headers = {"Content-Type": JSON, "Content-Encoding": encoding}
        answer = await api.client.post(f"/v1/collections/{collection}/search", content=SEARCH, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (SEARCH, {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
        (SEARCH, {"Content-Type": PATCH}, (415, "unsupported_media_type")),
        (SEARCH, {"Content-Type": "application/x-www-form-urlencoded"}, (415, "unsupported_media_type")),
        (b'{"query": "' + b"x" * (1 << 24) + b'"}', {"Content-Type": JSON}, (413, "too_large")),
        (b"query=bear", {"Content-Type": JSON}, (400, "malformed")),
        (b"\xff", {}, (400, "malformed")),
        (b'{"query": "bear"} ]', {}, (400, "malformed")),
    ],
    ids=["text", "patch", "form", "large", "words", "bytes", "more"],
)
async def test_a_search_is_read_by_the_rules_of_every_route(
    api: Api, collection: str, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = await api.client.post(f"/v1/collections/{collection}/search", content=body, headers=headers)

    assert code(answer) == expected


async def test_a_search_without_a_content_type_is_json(api: Api, collection: str) -> None:
    for headers in ({}, {"Content-Type": "Application/JSON; charset=utf-8"}):
        answer = await api.client.post(f"/v1/collections/{collection}/search", content=SEARCH, headers=headers)
        assert answer.status_code == 200
