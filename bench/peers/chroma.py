"""Chroma's server: vectors and a filter; its search API with other legs answers `not implemented` on one machine."""

import base64
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import orjson

from bench.dataset import Dataset, below
from bench.peers.environments import Environment
from bench.peers.failures import PeerError
from bench.peers.given import whole_texts
from bench.peers.http_client import Origin, ask, closed_loop
from bench.peers.processes import running
from bench.peers.sides import LIMIT, with_texts
from service.local.folder import StateFolder
from service.local.ports import LOOPBACK, free_port

DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"
BATCH, SENDERS = 1_000, 4


class Chroma:
    name = "chroma"

    def __init__(self, origin: Origin, dataset: Dataset, restart: Callable[[], Awaitable[None]]) -> None:
        self.origin, self.dataset, self.texts = origin, dataset, whole_texts(dataset)
        self.collection = ""
        self._restart = restart

    async def use(self, effort: int) -> None:
        """An index that is in memory keeps the `ef` with which it was opened, so the server starts anew."""
        body = {"new_configuration": {"hnsw": {"ef_search": effort}}}
        await ask(self.origin, self.origin.request("PUT", f"{DATABASE}/collections/{self.collection}", body))
        await self._restart()

    def vector_request(self, query: int, *, share: float | None = None) -> bytes:
        vector = [float(number) for number in self.dataset.query_vectors[query]]
        body: dict[str, object] = {
            "query_embeddings": [vector],
            "n_results": LIMIT,
            "include": ["documents", "distances"],
        }
        if share is not None:
            body["where"] = {"u": {"$lt": below(share)}}
        return self.origin.request("POST", f"{DATABASE}/collections/{self.collection}/query", body)

    def found(self, body: bytes) -> list[str]:
        answer = orjson.loads(body)
        return with_texts(list(zip(answer["ids"][0], answer["documents"][0], strict=True)))

    async def new_collection(self) -> str:
        body = {"name": f"bench-{uuid.uuid4().hex[:8]}", "configuration": {"hnsw": {"space": "ip"}}}
        made = orjson.loads(await ask(self.origin, self.origin.request("POST", f"{DATABASE}/collections", body)))
        return str(made["id"])

    async def drop(self, collection: str) -> None:
        path = f"{DATABASE}/collections/by-id/{collection}"
        name = orjson.loads(await ask(self.origin, self.origin.request("GET", path)))["name"]
        await ask(self.origin, self.origin.request("DELETE", f"{DATABASE}/collections/{name}"))

    def batches(self, collection: str, places: Sequence[int]) -> list[bytes]:
        """Vectors in base64, as its own client sends them."""
        path = f"{DATABASE}/collections/{collection}/add"
        return [
            self.origin.request("POST", path, self._records(places[start : start + BATCH]))
            for start in range(0, len(places), BATCH)
        ]

    def _records(self, places: Sequence[int]) -> dict[str, object]:
        data = self.dataset
        return {
            "ids": [data.ids[place] for place in places],
            "embeddings": [base64.b64encode(data.vectors[place].tobytes()).decode() for place in places],
            "documents": [self.texts[place] for place in places],
            "metadatas": [{"u": int(data.uniform[place])} for place in places],
        }

    async def send(self, collection: str, requests: Sequence[bytes], *, documents: int) -> float:
        """Seconds until every document is found by searches: it keeps a log, which the first search reads to its end."""
        begun = time.perf_counter()
        await closed_loop(self.origin, requests, concurrency=SENDERS)
        counted = int(await ask(self.origin, self.origin.request("GET", f"{DATABASE}/collections/{collection}/count")))
        vector = [float(number) for number in self.dataset.query_vectors[0]]
        body = {"query_embeddings": [vector], "n_results": LIMIT, "include": ["documents"]}
        await ask(self.origin, self.origin.request("POST", f"{DATABASE}/collections/{collection}/query", body))
        if counted != documents:
            raise PeerError(f"it counts {counted} documents of {documents}")
        return time.perf_counter() - begun


@asynccontextmanager
async def open_chroma(dataset: Dataset, environment: Environment, folder: StateFolder) -> AsyncIterator[Chroma]:
    origin = Origin(LOOPBACK, free_port())
    program, data = environment.program("chroma"), folder.subfolder("chroma")
    start = partial(
        running,
        "chroma",
        [str(program), "run", "--path", str(data), "--host", origin.host, "--port", str(origin.port)],
        origin=origin,
        ready="/api/v2/heartbeat",
        folder=folder,
        environment={"ANONYMIZED_TELEMETRY": "False"},
    )
    async with AsyncExitStack() as server:
        await server.enter_async_context(start())

        async def restart() -> None:
            await server.aclose()
            await server.enter_async_context(start())

        yield Chroma(origin, dataset, restart)
