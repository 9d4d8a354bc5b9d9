"""The contract suite: what clients of v1 rely on, spoken over HTTP to one release or to several in turn."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any

import httpx

Json = dict[str, Any]

BROKEN_PDF = b"%PDF-1.7\nnothing of a PDF follows\n"
MARKDOWN = b"# A heron\n\nThe heron stands in the reeds and waits for a fish.\n"
PATIENCE = 30.0


class BrokenPromiseError(Exception):
    """An answer that the contract does not allow; the message names the request."""


class Voice:
    """Requests of one tenant that go to each address in turn, so that what one release writes another reads."""

    def __init__(self, clients: Sequence[httpx.AsyncClient]) -> None:
        self._clients = cycle(clients)

    async def ask(self, method: str, path: str, expected: int, **request: Any) -> httpx.Response:  # noqa: ANN401  httpx's own
        response = await next(self._clients).request(method, path, **request)
        if response.status_code != expected:
            raise BrokenPromiseError(
                f"{method} {path} answered {response.status_code} for {expected}: {response.text[:300]}"
            )
        return response

    async def read(self, method: str, path: str, expected: int = 200, **request: Any) -> Json:  # noqa: ANN401
        found: Json = (await self.ask(method, path, expected, **request)).json()
        return found

    async def refused(self, method: str, path: str, expected: int, code: str, **request: Any) -> None:  # noqa: ANN401
        problem = await self.read(method, path, expected, **request)
        promise(problem.get("code") == code, f"{method} {path} said {problem.get('code')} for {code}")


@asynccontextmanager
async def speaking(urls: Sequence[str], key: str) -> AsyncIterator[Voice]:
    async with AsyncExitStack() as clients:
        yield Voice(
            [
                await clients.enter_async_context(
                    httpx.AsyncClient(
                        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE, trust_env=False
                    )
                )
                for url in urls
            ]
        )


def promise(kept: object, sentence: str) -> None:
    if not kept:
        raise BrokenPromiseError(sentence)


async def check_contract(voice: Voice, collection: str) -> None:
    """Raises BrokenPromiseError, or what httpx raises. Leaves the collection's failed upload behind, for the next schema."""
    home = f"/v1/collections/{collection}"
    await check_collections(voice, collection)
    fox, heron, broken, table = await asyncio.gather(
        check_texts(voice, home), check_files(voice, home), check_failures(voice, home), check_put(voice, home)
    )
    await check_batch(voice, home)
    await check_lists(voice, home, {fox["id"], heron["id"], broken["id"], table["id"]}, failed=broken["id"])
    await check_search(voice, home, fox, heron)
    await check_delete(voice, home, heron)


async def check_collections(voice: Voice, name: str) -> None:
    await voice.ask("POST", "/v1/collections", 201, json={"name": name, "language": "english"})
    await voice.refused("POST", "/v1/collections", 409, "collection_exists", json={"name": name})
    listed = await voice.read("GET", "/v1/collections", params={"limit": 100})
    promise(name in [each["name"] for each in listed["collections"]], "a new collection is not listed")
    await voice.read("PATCH", f"/v1/collections/{name}", json={"attributes": {"year": "integer"}})
    found = await voice.read("GET", f"/v1/collections/{name}")
    promise(found["attributes"] == {"year": "integer"}, "a declared attribute is forgotten")


async def check_texts(voice: Voice, home: str) -> Json:
    body = {"title": "Fox", "text": "The quick brown fox.", "tags": ["animal"], "attributes": {"year": 2024}}
    made = await voice.read("POST", f"{home}/documents", 201, json=body, params={"wait": 30})
    promise(made["status"] == "indexed" and made["error"] is None, f"a text ended {made['status']}")
    place = f"/v1/documents/{made['id']}"
    await voice.refused("PATCH", place, 428, "precondition_required", json={"title": "x"})
    changed = await voice.read("PATCH", place, json={"source": "https://example.org/fox"}, headers={"If-Match": '"1"'})
    promise(changed["version"] == 2, "a PATCH made no version")
    await voice.refused("PATCH", place, 412, "precondition_failed", json={"title": "x"}, headers={"If-Match": '"1"'})
    found = await voice.read("GET", place)
    promise(found["source"] and found["title"] == "Fox", "a PATCH is forgotten")
    promise((await voice.ask("GET", f"{place}/content", 200)).text == body["text"], "another content than was given")
    promise((await voice.read("GET", f"{place}/chunks"))["chunks"], "an indexed text has no chunk")
    await voice.refused("POST", f"{place}:retry", 409, "not_failed")
    return found


async def check_files(voice: Voice, home: str) -> Json:
    params = {"filename": "heron.md", "wait": 30, "title": "Heron"}
    made = await voice.read("POST", f"{home}/documents", 201, content=MARKDOWN, params=params)
    promise(made["status"] == "indexed", f"a Markdown file ended {made['status']}")
    stream = await voice.ask("GET", f"/v1/documents/{made['id']}/content", 200, params={"stream": "true"})
    promise(stream.content == MARKDOWN, "another file than was given")
    part = {
        "file": ("note.txt", b"A note about otters.", "text/plain"),
        "document": ("", json.dumps({"title": "Note"}), "application/json"),
    }
    form = await voice.read("POST", f"{home}/documents", 201, files=part, params={"wait": 30})
    promise(form["title"] == "Note" and form["status"] == "indexed", "a form lost its fields")
    return made


async def check_failures(voice: Voice, home: str) -> Json:
    """Told at once, read again, tried again, changed, and replaced by what can be read."""
    params = {"filename": "broken.pdf", "external_id": "broken", "wait": 30}
    made = await voice.read("POST", f"{home}/documents", 201, content=BROKEN_PDF, params=params)
    check_failed(made)
    place = f"/v1/documents/{made['id']}"
    for _ in range(2):  # Read by both where two releases take turns.
        check_failed(await voice.read("GET", place))
    await voice.ask("POST", f"{place}:retry", 202)
    check_failed(await until_ended(voice, place))
    changed = await voice.read("PATCH", place, json={"title": "Broken"}, headers={"If-Match": '"1"'})
    promise(changed["version"] == 2, "a failed document cannot be changed")
    check_failed(await until_ended(voice, place))
    await voice.ask("PUT", f"{home}/documents/mended", 202, content=BROKEN_PDF, params={"filename": "broken.pdf"})
    await voice.ask("PUT", f"{home}/documents/mended", 202, json={"text": "Mended."})
    mended = await until_ended(voice, f"{home}/documents/mended")
    promise(mended["status"] == "indexed" and mended["error"] is None, "a mended document keeps its error")
    return made


def check_failed(document: Json) -> None:
    promise(document["status"] == "failed", f"a broken PDF ended {document['status']}")
    error = document["error"] or {}
    promise(error.get("code") == "corrupt" and error.get("message"), f"the error of a broken PDF reads {error}")


async def until_ended(voice: Voice, place: str) -> Json:
    end = time.monotonic() + PATIENCE
    while True:
        found = await voice.read("GET", place)
        if found["status"] in {"indexed", "failed"}:
            return found
        promise(time.monotonic() < end, f"{place} stays {found['status']}")
        await asyncio.sleep(0.02)


async def check_put(voice: Voice, home: str) -> Json:
    place, body = f"{home}/documents/table%2F1", {"text": "A table of tides.", "attributes": {"year": 1990}}
    await voice.ask("PUT", place, 201, json=body, params={"wait": 30})
    same = await voice.read("PUT", place, json=body)
    promise(same["version"] == 1, "the same bytes made a version")
    changed = await voice.read("PUT", place, json=body | {"text": "A table of hours."}, params={"wait": 30})
    promise((changed["version"], changed["indexed_version"]) == (2, 2), "a PUT is not served")
    await voice.refused("PUT", place, 412, "precondition_failed", json=body, headers={"If-None-Match": "*"})
    return changed


async def check_batch(voice: Voice, home: str) -> None:
    lines = [{"text": "First of two.", "external_id": "one"}, {"text": ""}, {"text": "Again.", "external_id": "one"}]
    body = "\n".join(json.dumps(line) for line in lines)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await voice.ask("POST", f"{home}/documents:batch", 200, content=body, headers=headers)
    statuses = [json.loads(line)["status"] for line in answer.text.splitlines()]
    promise(statuses == [202, 422, 202], f"the lines of a batch answered {statuses}")


async def check_lists(voice: Voice, home: str, made: set[str], *, failed: str) -> None:
    found: set[str] = set()
    cursor = None
    while True:
        page = await voice.read(
            "GET", f"{home}/documents", params={"limit": 3} | ({"cursor": cursor} if cursor else {})
        )
        found |= {document["id"] for document in page["documents"]}
        if not (cursor := page["next_cursor"]):
            break
    promise(made <= found, "documents are missing from their list")
    page = await voice.read("GET", f"{home}/documents", params={"status": "failed"})
    promise([document["id"] for document in page["documents"]] == [failed], "the failed are not those that failed")
    check_failed(page["documents"][0])


async def check_search(voice: Voice, home: str, fox: Json, heron: Json) -> None:
    await until_settled(voice, home)
    for mode in ("lexical", "semantic", "hybrid"):
        found = await voice.read("POST", f"{home}/search", json={"query": "quick brown fox", "mode": mode})
        promise(found["hits"] and found["hits"][0]["document_id"] == fox["id"], f"{mode} search does not find the fox")
        narrow = {
            "query": "fox heron",
            "mode": mode,
            "filter": {"attributes.year": {"$gte": 2000}, "tags": {"$overlap": ["animal"]}},
        }
        hits = (await voice.read("POST", f"{home}/search", json=narrow))["hits"]
        promise([hit["document_id"] for hit in hits] == [fox["id"]], f"a filter leaves the wrong documents ({mode})")
    more = {"query": "heron", "include": ["count", "explain"], "facets": ["tags"], "highlight": True}
    found = await voice.read("POST", f"{home}/search", json=more)
    promise(found["hits"][0]["document_id"] == heron["id"] and found["count"], "a search loses what it includes")
    await voice.refused("POST", f"{home}/search", 422, "invalid", json={"query": "x", "filter": {"colour": 1}})


async def until_settled(voice: Voice, home: str) -> None:
    end = time.monotonic() + PATIENCE
    while not (status := await voice.read("GET", f"{home}/status"))["settled"]:
        promise(time.monotonic() < end, f"the collection does not settle: {status}")
        await asyncio.sleep(0.05)
    promise(status["documents"]["failed"] == 1, f"one document failed, and the status says {status['documents']}")


async def check_delete(voice: Voice, home: str, heron: Json) -> None:
    place = f"/v1/documents/{heron['id']}"
    await voice.refused("DELETE", place, 428, "precondition_required")
    await voice.ask("DELETE", place, 204, headers={"If-Match": "*"})
    await voice.refused("GET", place, 404, "not_found")
    hits = (await voice.read("POST", f"{home}/search", json={"query": "heron reeds", "mode": "lexical"}))["hits"]
    promise(heron["id"] not in [hit["document_id"] for hit in hits], "what was deleted is still found")
