"""Real and hostile files over HTTP: each ends as its manifest says, and the service goes on."""

import asyncio
import csv
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.api_calls import Api

CODES = {"unsupported_type", "encrypted", "corrupt", "empty", "too_large", "timeout"}


async def upload(api: Api, collection: str, path: Path, name: str) -> dict[str, Any]:
    content = await asyncio.to_thread(path.read_bytes)
    url, params = f"/v1/collections/{collection}/documents", {"filename": path.name, "external_id": name, "wait": "60"}
    answer = await api.client.post(url, params=params, content=content)
    assert answer.status_code == 201, (name, answer.text)
    document: dict[str, Any] = answer.json()
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    return document


@pytest.mark.usefixtures("worker")
async def test_every_file_ends_as_its_manifest_says(api: Api, collection: str, data: Path) -> None:
    with (data / "files" / "MANIFEST.tsv").open(encoding="utf-8", newline="") as manifest:
        expected = {row["path"]: row["outcome"] for row in csv.DictReader(manifest, delimiter="\t")}
    slots, endings = asyncio.Semaphore(4), {}

    async def try_one(name: str) -> None:
        async with slots:
            endings[name] = await upload(api, collection, data / "files" / name, name)

    await asyncio.gather(*map(try_one, expected))

    assert {
        name: end["status"] for name, end in endings.items() if expected[name] not in {"either", end["status"]}
    } == {}
    assert {end["error"]["code"] for end in endings.values() if end["error"]} <= CODES
    status = await api.status(collection)
    assert (status["documents"]["pending"], status["jobs"]["dead"]) == (0, 0)
