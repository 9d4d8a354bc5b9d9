"""Documents with vectors of their own: text and vector go from the accepted version to what search reads, inside the database."""

import asyncpg
import numpy as np

from service.resources import Resources
from tests.api_calls import Api
from tests.worker_calls import check_whole, working_with

FIRST, SECOND = ([float(n % 7 + (n == place)) for n in range(384)] for place in (3, 200))


def as_kept(vector: list[float]) -> np.ndarray:
    unit = np.asarray(vector, np.float64)
    return (unit / np.linalg.norm(unit)).astype(np.float16)


async def test_a_new_version_replaces_text_and_vector_as_they_were_given(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection
) -> None:
    async with working_with(resources)():
        answers = []
        for text, vector in (("Élan, the first", FIRST), ("Naïve 🐻, the second", SECOND)):
            body = {"title": "A title", "text": text, "vector": vector}
            path = f"/v1/collections/{collection}/documents/given"
            answers.append((await api.client.put(path, json=body, params={"wait": 60})).json())

    assert [(a["status"], a["indexed_version"], a["chunk_count"]) for a in answers] == [
        ("indexed", 1, 1),
        ("indexed", 2, 1),
    ]
    (chunk,) = (await api.client.get(f"/v1/documents/{answers[1]['id']}/chunks")).json()["chunks"]
    assert (chunk["text"], chunk["char_start"], chunk["char_end"]) == ("Naïve 🐻, the second", 0, 19)
    (kept,) = await admin.fetch(
        "select e.embedding::text from embeddings e join collections c on c.id = e.collection_id where c.name = $1",
        collection,
    )
    assert np.array_equal(np.fromstring(kept[0].strip("[]"), np.float32, sep=","), as_kept(SECOND).astype(np.float32))
    await check_whole(admin)
