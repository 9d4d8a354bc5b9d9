"""What the clients of a rehearsal do, each once: a request, the answers it may have, and what the ledger learns."""

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx

from rehearsal.balancer import Balancer
from rehearsal.contract import BROKEN_PDF
from rehearsal.ledger import Entry, Ledger, sha256_of
from rehearsal.records import Records

COLLECTION = "rehearsal"
HOME = f"/v1/collections/{COLLECTION}"
BROKEN = sha256_of(BROKEN_PDF)

Json = dict[str, Any]


class UnexpectedAnswerError(Exception):
    """A status or a body that this request may not have at this point."""

    def __init__(self, sentence: str, release: str) -> None:
        super().__init__(sentence)
        self.release = release


@dataclass(frozen=True)
class World:
    """What the clients share; `texts` are there to be taken."""

    balancer: Balancer
    ledger: Ledger
    records: Records
    texts: Sequence[str]
    numbers: "count[int]"

    async def send(self, method: str, path: str, expected: set[int], **request: Any) -> tuple[str, httpx.Response]:  # noqa: ANN401
        instance, response = await self.balancer.send(method, path, **request)
        release = str(instance.release)
        if response.status_code not in expected:
            said = f"{method} {path} answered {response.status_code} at {instance.name}: {response.text[:200]}"
            raise UnexpectedAnswerError(said, release)
        return release, response

    def pick(self, chance: random.Random, *, fails: bool | None = None) -> Entry | None:
        """A living document that nobody writes; None when some throws of the dice found none."""
        entries = self.ledger.keys
        for _ in range(20):
            entry = self.ledger.entries[entries[chance.randrange(len(entries))]]
            if not entry.busy and not entry.deleted and not entry.uncertain and fails in {None, entry.fails}:
                return entry
        return None


@contextmanager
def writing(entry: Entry) -> Iterator[None]:
    """Alone; when no answer comes, or none that says what happened, nobody knows what is there."""
    entry.busy = True
    try:
        yield
    except BaseException:
        entry.uncertain = True
        raise
    finally:
        entry.busy = False


def question(world: World, chance: random.Random) -> str:
    words = chance.choice(world.texts).split()
    return " ".join(chance.sample(words, 3))


def searching(mode: str, narrowed: Mapping[str, Any] | None = None) -> Callable[[World, random.Random], Awaitable[str]]:
    async def search(world: World, chance: random.Random) -> str:
        body = {"query": question(world, chance), "mode": mode} | ({"filter": narrowed} if narrowed else {})
        release, response = await world.send("POST", f"{HOME}/search", {200}, json=body)
        if "hits" not in response.json():
            raise UnexpectedAnswerError("a search without hits", release)
        return release

    return search


async def list_documents(world: World, chance: random.Random) -> str:
    params = chance.choice([{}, {"status": "failed"}, {"limit": "50"}])
    release, _ = await world.send("GET", f"{HOME}/documents", {200}, params=params)
    return release


async def get(world: World, chance: random.Random) -> str:
    """Reads what was written, unless it is written to meanwhile."""
    if (entry := world.pick(chance)) is None:
        return await list_documents(world, chance)
    told = (entry.version, entry.title, entry.sha256)
    release, response = await world.send("GET", f"/v1/documents/{entry.id}", {200, 404})
    if entry.busy or entry.deleted or entry.uncertain or told != (entry.version, entry.title, entry.sha256):
        return release
    document = response.json()
    shown = tuple(document.get(name) for name in ("version", "title", "sha256"))
    if shown != told:
        raise UnexpectedAnswerError(f"{entry.id} reads {shown} for {told}", release)
    if document["status"] == "failed" and (document["error"] or {}).get("code") != "corrupt":
        raise UnexpectedAnswerError(f"{entry.id} failed, and its error reads {document['error']}", release)
    return release


async def post(world: World, chance: random.Random) -> str:
    number, text = next(world.numbers), chance.choice(world.texts)
    body = {"external_id": f"post/{number}", "title": f"Post {number}", "text": f"{text} {number}"}
    return await make(world, body["external_id"], body["title"], sha256_of(body["text"]), json=body)


async def upload_broken(world: World, _: random.Random) -> str:
    name = f"broken/{next(world.numbers)}"
    params = {"filename": "broken.pdf", "external_id": name}
    return await make(world, name, None, BROKEN, fails=True, content=BROKEN_PDF, params=params)


async def make(world: World, name: Any, title: Any, sha256: str, *, fails: bool = False, **request: Any) -> str:  # noqa: ANN401
    try:
        release, response = await world.send("POST", f"{HOME}/documents", {202}, **request)
    except BaseException:
        world.ledger.lost_answers += 1
        raise
    world.ledger.add(Entry(response.json()["id"], name, 1, title, sha256, fails=fails))
    return release


async def put(world: World, chance: random.Random) -> str:
    """Also mends what failed."""
    if (entry := world.pick(chance)) is None:
        return await post(world, chance)
    with writing(entry):
        number = next(world.numbers)
        body = {
            "title": f"Put {number}",
            "text": f"{chance.choice(world.texts)} {number}",
            "attributes": {"year": number % 50},
        }
        path = f"{HOME}/documents/{quote(entry.external_id, safe='')}"
        release, response = await world.send("PUT", path, {202}, json=body)
        entry.version, entry.title = response.json()["version"], f"Put {number}"
        entry.sha256, entry.fails = sha256_of(str(body["text"])), False
    return release


async def patch(world: World, chance: random.Random) -> str:
    if (entry := world.pick(chance)) is None:
        return await post(world, chance)
    with writing(entry):
        title = f"Patch {next(world.numbers)}"
        headers = {"If-Match": f'"{entry.version}"'}
        release, _ = await world.send(
            "PATCH", f"/v1/documents/{entry.id}", {200}, json={"title": title}, headers=headers
        )
        entry.version, entry.title = entry.version + 1, title
    return release


async def delete(world: World, chance: random.Random) -> str:
    if (entry := world.pick(chance)) is None:
        return await post(world, chance)
    with writing(entry):
        headers = {"If-Match": f'"{entry.version}"'}
        release, _ = await world.send("DELETE", f"/v1/documents/{entry.id}", {204}, headers=headers)
        entry.deleted = True
    return release


async def retry(world: World, chance: random.Random) -> str:
    """Of a failed upload, which fails again; 409 while it has not failed yet."""
    if (entry := world.pick(chance, fails=True)) is None:
        return await upload_broken(world, chance)
    with writing(entry):
        release, _ = await world.send("POST", f"/v1/documents/{entry.id}:retry", {202, 409})
    return release


# Of a hundred requests, how many.
ACTIONS: dict[str, tuple[Callable[[World, random.Random], Awaitable[str]], int]] = {
    "search lexical": (searching("lexical"), 15),
    "search semantic": (searching("semantic"), 15),
    "search hybrid": (searching("hybrid"), 20),
    "search filtered": (searching("hybrid", {"attributes.year": {"$gte": 25}}), 15),
    "list": (list_documents, 5),
    "get": (get, 8),
    "post": (post, 5),
    "put": (put, 5),
    "patch": (patch, 4),
    "delete": (delete, 2),
    "upload broken": (upload_broken, 4),
    "retry": (retry, 2),
}
