"""A filled collection and a file of questions for those who bring their own load generator."""

from pathlib import Path
from typing import Any

import orjson

from bench.dataset import Dataset
from bench.filling import client_of, fill, make_collection
from bench.opened import Target
from bench.place import Place


async def prepare(target: Target, dataset: Dataset, file: Path) -> dict[str, Any]:
    """What the file then holds: `collection` and `queries`. A collection that is filled already stays as it is."""
    name = f"bench-{dataset.name}"[:60].lower().replace("_", "-")
    async with client_of(Place(target.url, target.key)) as client:
        await make_collection(client, name)
        there = (await client.collection_status(name)).indexed
        if there < len(dataset):
            await fill(client, name, dataset, range(there, len(dataset)), vectors=True)
    written = {"collection": name, "queries": dataset.queries}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(written))
    return written
