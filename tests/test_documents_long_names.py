"""A name or a type as long as a client may send it is no header that a store refuses."""

from urllib.parse import unquote

import httpx
import pytest

from service.blobs.bucket import shortened
from tests.api_calls import Api


@pytest.mark.parametrize(
    "name",
    ["é" * 1_020 + ".md", "日本" * 510 + ".txt", "\N{BEAR FACE}" * 1_024, "a." + "b" * 1_000, "x" * 1_021 + ".md"],
    ids=len,
)
async def test_a_file_of_the_longest_name_is_kept(api: Api, collection: str, name: str) -> None:
    document = await api.make_file(collection, b"Text of a file.", filename=name)

    link = await api.client.get(f"/v1/documents/{document['id']}/content")

    assert link.status_code == 302, link.text
    async with httpx.AsyncClient() as anonymous:
        file = await anonymous.get(link.headers["location"])
    assert file.content == b"Text of a file."
    assert unquote(file.headers["content-disposition"]).endswith(shortened(name))
    streamed = await api.client.get(f"/v1/documents/{document['id']}/content?stream=true")
    assert (streamed.status_code, streamed.content) == (200, b"Text of a file.")


@pytest.mark.parametrize(
    "content_type", ["application/" + "x" * 8_000, "text/plain; charset=" + "y" * 8_000, "text/plain; a=" + "é" * 3_000]
)
@pytest.mark.parametrize("content", [b"Text of a file.", b"\x00\x01\xfe\xff" * 100])
async def test_a_long_content_type_only_helps(api: Api, collection: str, content_type: str, content: bytes) -> None:
    headers = [(b"Content-Type", content_type.encode("latin-1"))]
    posted = await api.client.post(f"/v1/collections/{collection}/documents", content=content, headers=headers)

    assert posted.status_code == 202, posted.text
    url = f"/v1/documents/{posted.json()['id']}/content"
    assert (await api.client.get(f"{url}?stream=true")).content == content
    link = await api.client.get(url)
    async with httpx.AsyncClient() as anonymous:
        assert (await anonymous.get(link.headers["location"])).content == content


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("a.md", "a.md"),
        ("é" * 200 + ".md", "é" * 126 + ".md"),
        ("x" * 300, "x" * 255),
        ("x" * 250 + ".jpeg", "x" * 250 + ".jpeg"),
        ("a." + "b" * 300, "a." + "b" * 253),
        ("\N{BEAR FACE}" * 64, "\N{BEAR FACE}" * 63),
        ("", ""),
    ],
)
def test_a_name_is_shortened_to_what_file_systems_take(name: str, short: str) -> None:
    assert shortened(name) == short
    assert len(shortened(name).encode()) <= 255
