"""txtai's API: hybrid search with its own defaults (faiss and its BM25), texts stored, vectors looked up."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import orjson

from bench.dataset import Dataset
from bench.peers.environments import Environment
from bench.peers.failures import PeerError
from bench.peers.given import whole_texts
from bench.peers.http_client import Origin, ask, closed_loop
from bench.peers.ours import ROOT
from bench.peers.processes import running
from bench.peers.sides import LIMIT, with_texts
from service.local.folder import StateFolder
from service.local.ports import LOOPBACK, free_port

BATCH = 1_000
CONFIGURATION = """\
writable: true
embeddings:
  method: external
  transform: bench.peers.inside.txtai_lookup.transform
  hybrid: true
  content: true
"""


class Txtai:
    name = "txtai"

    def __init__(self, origin: Origin, dataset: Dataset) -> None:
        self.origin, self.dataset, self.texts = origin, dataset, whole_texts(dataset)

    def hybrid_request(self, query: int) -> bytes:
        return self.origin.request("GET", f"/search?query={quote(self.dataset.queries[query])}&limit={LIMIT}")

    def found(self, body: bytes) -> list[str]:
        return with_texts([(hit["id"], hit["text"]) for hit in orjson.loads(body)])

    async def load(self) -> float:
        """Seconds until everything is indexed."""
        rows = [{"id": name, "text": text} for name, text in zip(self.dataset.ids, self.texts, strict=True)]
        requests = [
            self.origin.request("POST", "/add", rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)
        ]
        begun = time.perf_counter()
        await closed_loop(self.origin, requests, concurrency=1)
        await ask(self.origin, self.origin.request("GET", "/index"))
        counted = int(await ask(self.origin, self.origin.request("GET", "/count")))
        if counted != len(rows):
            raise PeerError(f"txtai counts {counted} documents of {len(rows)}")
        return time.perf_counter() - begun


@asynccontextmanager
async def open_txtai(dataset: Dataset, environment: Environment, folder: StateFolder) -> AsyncIterator[Txtai]:
    """One process, as its own documentation starts it."""
    origin = Origin(LOOPBACK, free_port())
    configuration = folder.path / "txtai.yml"
    configuration.write_text(CONFIGURATION, encoding="ascii")
    argv = [str(environment.python), "-m", "uvicorn", "txtai.api:app", "--no-access-log", "--host", origin.host]
    async with running(
        "txtai",
        [*argv, "--port", str(origin.port)],
        origin=origin,
        ready="/count",
        folder=folder,
        environment={
            "CONFIG": str(configuration),
            "PYTHONPATH": os.fspath(ROOT),
            "GIVEN": str(folder.path / "given"),
            "HF_HUB_OFFLINE": "1",
            "ALLOW_RESOLVE_TRANSFORM": "True",
        },
    ):
        yield Txtai(origin, dataset)
