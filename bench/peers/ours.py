"""The service itself, started with its default settings in a folder of its own, and asked as any client asks it."""

import asyncio
import shlex
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.dataset import Dataset, below
from bench.peers.failures import PeerError
from bench.peers.http_client import Origin, ask, closed_loop
from bench.peers.processes import running
from bench.peers.sides import LIMIT, with_texts
from service.local.folder import StateFolder
from service.local.ports import LOOPBACK, free_port
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
BATCH, SENDERS = 1_000, 4  # Lines of a request, the most that there may be; requests at a time.
LEG = 100  # Candidates.
WORKERS_SETTING = "SERVE_WORKERS"
PAUSE = 0.05
PATIENCE = 900.0
SETTLED = ("pending", "processing")


class Service:
    def __init__(self, origin: Origin, key: str, dataset: Dataset, *, name: str = "ours") -> None:
        self.name = name
        self.origin, self.key, self.dataset = origin, key, dataset
        self.collection = ""
        self.effort: int | None = None
        self._headers = {"Authorization": f"Bearer {key}"}

    def request(self, method: str, path: str, body: object = None) -> bytes:
        return self.origin.request(method, path, body, self._headers)

    async def use(self, effort: int) -> None:
        self.effort = effort

    def vector_request(self, query: int, *, share: float | None = None) -> bytes:
        """The window is what is asked for: with one leg there is nothing to fuse."""
        vector = [float(number) for number in self.dataset.query_vectors[query]]
        body: dict[str, Any] = {"mode": "semantic", "vector": vector, "limit": LIMIT, "fusion": {"window": LIMIT}}
        if self.effort is not None:
            body["params"] = {"ef_search": self.effort}
        if share is not None:
            body["filter"] = {"attributes.u": {"$lt": below(share)}}
        return self._search(body)

    def hybrid_request(self, query: int) -> bytes:
        """All of it as it comes by default."""
        return self._search({"query": self.dataset.queries[query], "limit": LIMIT})

    def tuned_hybrid_request(self, query: int) -> bytes:
        """As many candidates from each leg as txtai and langchain-postgres take, the semantic ones from the graph."""
        tuned = {"fusion": {"window": LEG}, "params": {"ef_search": LEG}}
        return self._search({"query": self.dataset.queries[query], "limit": LIMIT, **tuned})

    def lexical_request(self, query: int) -> bytes:
        return self._search({"query": self.dataset.queries[query], "mode": "lexical", "limit": LIMIT})

    def _search(self, body: object) -> bytes:
        return self.request("POST", f"/v1/collections/{self.collection}/search", body)

    def found(self, body: bytes) -> list[str]:
        answer = orjson.loads(body)
        if degraded := [warning for warning in answer["warnings"] if warning["code"] == "lexical_only"]:
            raise PeerError(f"a search was degraded: {degraded}")
        return with_texts([(hit["external_id"], hit["chunks"][0]["text"]) for hit in answer["hits"]])

    async def new_collection(self) -> str:
        name = f"bench-peers-{uuid.uuid4().hex[:8]}"
        await ask(self.origin, self.request("POST", "/v1/collections", {"name": name, "language": "english"}))
        declared = {"attributes": {"u": "integer"}}
        await ask(self.origin, self.request("PATCH", f"/v1/collections/{name}", declared))
        await self.settle(name)  # The worker makes the index of what is declared.
        return name

    async def drop(self, collection: str) -> None:
        await ask(self.origin, self.request("DELETE", f"/v1/collections/{collection}"))

    def batches(self, collection: str, places: Sequence[int]) -> list[bytes]:
        """Requests with vectors given, `BATCH` documents each."""
        path = f"/v1/collections/{collection}/documents:batch"
        headers = {**self._headers, "Content-Type": "application/x-ndjson"}
        return [
            self.origin.request("POST", path, b"".join(map(self._line, places[start : start + BATCH])), headers)
            for start in range(0, len(places), BATCH)
        ]

    def _line(self, place: int) -> bytes:
        data = self.dataset
        document = {
            "external_id": data.ids[place],
            "title": data.titles[place],
            "text": data.texts[place],
            "attributes": {"u": int(data.uniform[place])},
            "vector": data.vectors[place],
        }
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"

    async def send(self, collection: str, requests: Sequence[bytes], *, documents: int) -> float:
        """Seconds until every document is found by searches."""
        begun = time.perf_counter()
        load = await closed_loop(self.origin, requests, concurrency=SENDERS)
        for answer in load.answers:
            if refused := [line for line in answer.body.splitlines() if orjson.loads(line)["status"] >= 400]:  # noqa: PLR2004
                raise PeerError(f"{len(refused)} documents were refused: {refused[0].decode()}")
        await self._until(collection, lambda status: _counted(status) == (documents, 0), begun)
        return time.perf_counter() - begun

    async def settle(self, collection: str) -> None:
        """Until the words are counted too, and no job is left that would take a processor from a measurement."""

        def quiet(status: dict[str, Any]) -> bool:
            return bool(status["settled"]) and status["jobs"]["running"] == status["jobs"]["queued"] == 0

        await self._until(collection, quiet, time.perf_counter())

    async def _until(self, collection: str, done: Callable[[dict[str, Any]], bool], begun: float) -> None:
        request = self.request("GET", f"/v1/collections/{collection}/status")
        while not done(status := orjson.loads(await ask(self.origin, request))):
            if status["documents"]["failed"] or time.perf_counter() - begun > PATIENCE:
                raise PeerError(f"the documents did not become searchable: {status}")
            await asyncio.sleep(PAUSE)


def _counted(status: dict[str, Any]) -> tuple[int, int]:
    documents = status["documents"]
    return documents["indexed"], documents["pending"] + documents["processing"]


def can_serve_with_workers() -> bool:
    return WORKERS_SETTING.lower() in Settings.model_fields


@asynccontextmanager
async def open_workers(service: Service, folder: StateFolder, count: int) -> AsyncIterator[Service]:
    """The same data behind one port and several processes, beside the service that runs already."""
    lines = (folder.path / "service" / "environment").read_text(encoding="utf-8").splitlines()
    written = dict(word.split("=", 1) for line in lines for word in shlex.split(line))
    origin = Origin(LOOPBACK, free_port())
    async with running(
        "workers",
        [sys.executable, "-m", "service", "serve"],
        origin=origin,
        ready="/readyz",
        folder=folder,
        environment={**written, "PORT": str(origin.port), WORKERS_SETTING: str(count)},
        directory=ROOT,
    ):
        several = Service(origin, service.key, service.dataset, name=f"{service.name} with {count} workers")
        several.collection, several.effort = service.collection, service.effort
        yield several


@asynccontextmanager
async def open_service(dataset: Dataset, folder: StateFolder) -> AsyncIterator[Service]:
    state = folder.subfolder("service")
    origin = Origin(LOOPBACK, free_port())
    async with running(
        "service",
        [sys.executable, "-m", "service", "run", "--port", str(origin.port), "--data-dir", str(state)],
        origin=origin,
        ready="/readyz",
        folder=folder,
        directory=ROOT,
    ):
        # It answers before it has greeted whoever started it; the key and its settings are written down by then.
        while not ((state / "api_key").is_file() and (state / "environment").is_file()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(PAUSE)
        key = (state / "api_key").read_text(encoding="ascii").strip()
        yield Service(origin, key, dataset)
