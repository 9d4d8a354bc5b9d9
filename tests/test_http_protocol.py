"""Bytes that are no HTTP, and forms that end too early: over a real socket, as `serve` listens on one."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from tests.api_calls import Api, code
from tests.serving import serving


@pytest.fixture(scope="module")
async def port(app: FastAPI) -> AsyncIterator[int]:
    async with serving(app) as port:
        yield port


async def talk(port: int, said: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the last answer on a connection that the service closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    heard = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = heard[heard.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n",
    ],
    ids=["words", "tls", "header", "length", "version", "second"],
)
async def test_what_is_no_http_is_a_problem_too(port: int, said: bytes) -> None:
    status, headers, body = await talk(port, said)
    problem = json.loads(body)

    assert status == problem["status"] == 400
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(body))
    assert (problem["code"], problem["request_id"]) == ("malformed", headers["x-request-id"])
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}


WHOLE = (
    b'--b\r\nContent-Disposition: form-data; name="document"\r\n\r\n{"title": "x"}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\nText.\r\n--b--\r\n'
)


async def test_a_form_without_its_end_is_malformed(api: Api, collection: str) -> None:
    url, headers = f"/v1/collections/{collection}/documents", {"Content-Type": "multipart/form-data; boundary=b"}
    ends = [
        WHOLE.index(b'{"title'),
        WHOLE.index(b"--b\r\n", 5) + 5,
        WHOLE.index(b"Text") + 2,
        WHOLE.index(b"--b--") + 3,
    ]
    for end in (1, 3, 30, *ends):
        answer = await api.client.post(url, content=WHOLE[:end], headers=headers)
        assert code(answer) == (400, "malformed"), WHOLE[:end]

    for form in (WHOLE, WHOLE.removesuffix(b"\r\n"), WHOLE + b"an epilogue"):
        answer = await api.client.post(url, content=form, headers=headers)
        assert answer.status_code == 202, answer.text
    assert len((await api.client.get(url)).json()["documents"]) == 3
