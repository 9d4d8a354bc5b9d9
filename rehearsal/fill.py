"""The documents that are there before a change begins, many of them failed uploads, so that a backfill has work."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from rehearsal.actions import BROKEN, COLLECTION, HOME, World
from rehearsal.balancer import Balancer
from rehearsal.contract import BROKEN_PDF
from rehearsal.failures import RehearsalError
from rehearsal.ground import Ground
from rehearsal.ledger import Entry, Ledger, sha256_of

Json = dict[str, Any]

AGED = "aged"
LINES = 500  # of a batch
AT_ONCE = 6
PATIENCE = 120.0
# One row of each table, many times under other keys, whatever columns this schema has.
AGE_DOCUMENTS = """
insert into documents (id, collection_id, external_id)
select uuidv7(), collection_id, 'aged/' || n from documents, generate_series(1, $2) n where id = $1"""
AGE_VERSIONS = """
insert into document_versions
select (jsonb_populate_record(v, jsonb_build_object('document_id', d.id))).*
from document_versions v join documents d on d.collection_id = v.collection_id and d.id <> v.document_id
where v.document_id = $1"""


async def fill(world: World, count: int, broken: int) -> None:
    """`count` texts and `broken` uploads that fail, all in the ledger, all finished."""
    await ask(world.balancer, "POST", "/v1/collections", 201, json={"name": COLLECTION, "language": "english"})
    declared = {"attributes": {"year": "integer"}}
    await ask(world.balancer, "PATCH", f"/v1/collections/{COLLECTION}", 200, json=declared)
    for start in range(0, count, LINES):
        await fill_batch(world, range(start, min(start + LINES, count)))
    turn = asyncio.Semaphore(AT_ONCE)

    async def upload(number: int) -> None:
        async with turn:
            await break_one(world.balancer, world.ledger, COLLECTION, f"filled/broken/{number}")

    await asyncio.gather(*(upload(number) for number in range(broken)))
    await until_finished(world.balancer, COLLECTION)


async def fill_batch(world: World, numbers: range) -> None:
    lines = [
        {
            "external_id": f"filled/{number}",
            "title": f"Filled {number}",
            "text": f"{world.texts[number % len(world.texts)]} {number}",
            "attributes": {"year": number % 50},
        }
        for number in numbers
    ]
    body = "\n".join(json.dumps(line) for line in lines)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await ask(world.balancer, "POST", f"{HOME}/documents:batch", 200, content=body, headers=headers)
    for line, text in zip(lines, answer.splitlines(), strict=True):
        made = json.loads(text)
        entry = Entry(made["id"], str(line["external_id"]), 1, str(line["title"]), sha256_of(str(line["text"])))
        world.ledger.add(entry)


async def break_one(balancer: Balancer, ledger: Ledger | None, collection: str, name: str) -> str:
    params = {"filename": "broken.pdf", "external_id": name}
    path = f"/v1/collections/{collection}/documents"
    made: Json = json.loads(await ask(balancer, "POST", path, 202, content=BROKEN_PDF, params=params))
    if ledger is not None:
        ledger.add(Entry(made["id"], name, 1, None, BROKEN, fails=True))
    return str(made["id"])


async def age(ground: Ground, database: str, balancer: Balancer, rows: int) -> None:
    """A collection beside, with `rows` uploads that failed long ago: one is real, the others are its copies."""
    await ask(balancer, "POST", "/v1/collections", 201, json={"name": AGED, "language": "english"})
    pattern = await break_one(balancer, None, AGED, "pattern")
    await until_finished(balancer, AGED)
    async with ground.admin(database) as connection:
        await connection.execute(AGE_DOCUMENTS, pattern, rows)
        await connection.execute(AGE_VERSIONS, pattern)
        await connection.execute("analyze documents, document_versions")


async def until_finished(balancer: Balancer, collection: str) -> None:
    """Nothing is pending, and the words are counted."""
    end = time.monotonic() + PATIENCE
    while not (status := json.loads(await ask(balancer, "GET", f"/v1/collections/{collection}/status", 200)))[
        "settled"
    ]:
        if time.monotonic() > end:
            raise RehearsalError(f"the collection {collection} does not settle: {status}")
        await asyncio.sleep(0.1)


async def list_all(balancer: Balancer, collection: str) -> list[Json]:
    """Every document as the service shows it in the end."""
    found: list[Json] = []
    params: dict[str, str] = {"limit": "100"}
    while True:
        page = json.loads(await ask(balancer, "GET", f"/v1/collections/{collection}/documents", 200, params=params))
        found += page["documents"]
        if not page["next_cursor"]:
            return found
        params["cursor"] = page["next_cursor"]


async def unread(balancer: Balancer, entries: Sequence[Entry]) -> list[str]:
    """Of these documents, those whose content is not what was acknowledged."""
    wrong = []
    for entry in entries:
        _, response = await balancer.send("GET", f"/v1/documents/{entry.id}/content", params={"stream": "true"})
        if response.status_code != 200 or sha256_of(response.content) != entry.sha256:
            wrong.append(f"{entry.id}: its content is another than was acknowledged ({response.status_code})")
    return wrong


async def ask(balancer: Balancer, method: str, path: str, expected: int, **request: Any) -> str:  # noqa: ANN401  httpx's own
    _, response = await balancer.send(method, path, **request)
    if response.status_code != expected:
        raise RehearsalError(f"{method} {path} answered {response.status_code} for {expected}: {response.text[:200]}")
    return response.text
