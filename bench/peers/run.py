"""One run: the service first, then each peer beside it, each ended before the next begins."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.dataset import Dataset
from bench.peers import hybrid, ingest, limits, vector_search
from bench.peers.chroma import open_chroma
from bench.peers.environments import Environment, prepare
from bench.peers.exact import Exact, exact_hybrid
from bench.peers.failures import PeerError
from bench.peers.given import write_given
from bench.peers.hybrid import Ask, http_side, library_side
from bench.peers.latencies import over_http
from bench.peers.library import LibraryPeer, open_library
from bench.peers.ours import Service, can_serve_with_workers, open_service, open_workers
from bench.peers.postgres import open_database
from bench.peers.raw_sql import open_raw_sql
from bench.peers.report import Report
from bench.peers.txtai import open_txtai
from bench.peers.verdicts import failure
from service.local.folder import StateFolder

PEERS = ("chroma", "txtai", "lancedb", "langchain", "limits")
LIBRARIES_OF_LIMITS = ("bm25s", "tantivy")
WORKERS = 3  # Processes, where there can be several; Postgres and the client need what is left.
AT_ONCE = 2  # Installations.
NOISE_EF = 100  # The service's default, before anything is tuned.


@dataclass
class Run:
    dataset: Dataset
    folder: StateFolder
    environments: Path
    peers: tuple[str, ...]
    rounds: int
    report: Report
    console: Console
    installed: dict[str, Environment] = field(default_factory=dict)

    async def all(self) -> None:
        """Nothing that a peer does wrong stops the others; the report has a row for it."""
        await self.install()
        given = self.folder.path / "given"
        await asyncio.to_thread(write_given, self.dataset, given)
        async with open_service(self.dataset, self.folder) as service:
            await self.fill(service)
            self.say("the service over itself")
            await service.use(NOISE_EF)
            self.report.rows += await vector_search.noise(service, rounds=self.rounds)
            for name, part in self.parts(service).items():
                self.say(name)
                try:
                    await part()
                except Exception as error:  # noqa: BLE001 - whatever a peer does, the next one can still be tried
                    self.console.print_exception() if not isinstance(error, PeerError) else None
                    self.report.rows.append(failure(name, f"{type(error).__name__}: {error}"))

    def parts(self, service: Service) -> Mapping[str, Callable[[], Awaitable[None]]]:
        parts: dict[str, Callable[[], Awaitable[None]]] = {}
        if "chroma" in self.installed:
            parts["chroma"] = lambda: self.beside_chroma(service)
        parts["hybrid"] = lambda: self.hybrids(service)
        if "limits" in self.installed:
            parts["limits"] = lambda: self.limits(service)
        return parts

    async def install(self) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with room:
                try:
                    self.installed[name] = await asyncio.to_thread(prepare, name, self.environments)
                except PeerError as error:
                    self.report.rows.append(failure(name, error))

        self.say(f"installing {', '.join(self.peers)} where they are not there yet")
        await asyncio.gather(*map(one, self.peers))
        self.report.versions |= {name: self.installed[name].versions for name in self.peers if name in self.installed}

    async def fill(self, service: Service) -> None:
        self.say(f"filling the service with {len(self.dataset):,} documents")
        service.collection = await service.new_collection()
        requests = service.batches(service.collection, range(len(self.dataset)))
        seconds = await service.send(service.collection, requests, documents=len(self.dataset))
        await service.settle(service.collection)
        self.loaded("ours", seconds)

    async def beside_chroma(self, service: Service) -> None:
        measure = vector_search.Measure(self.dataset)
        async with open_chroma(self.dataset, self.installed["chroma"], self.folder) as chroma:
            chroma.collection = await chroma.new_collection()
            requests = chroma.batches(chroma.collection, range(len(self.dataset)))
            self.loaded("chroma", await chroma.send(chroma.collection, requests, documents=len(self.dataset)))
            tuned = await vector_search.tune((service, chroma), measure)
            self.report.settings["vector search"] = {
                side: f"ef {point.effort} (recall {point.recall:.4f})"
                for side, point in zip(("ours", "chroma"), tuned, strict=True)
            }
            self.report.rows += await vector_search.throughput(service, chroma, measure, tuned, rounds=self.rounds)
            if can_serve_with_workers():
                self.say(f"{WORKERS} processes of the service")
                async with open_workers(service, self.folder, WORKERS) as several:
                    self.report.rows += await vector_search.throughput(
                        several, chroma, measure, tuned, rounds=self.rounds
                    )
            self.report.rows += await vector_search.filtered(service, chroma, measure, rounds=self.rounds)
            self.report.rows.append(await ingest.ingest(service, chroma, self.dataset, rounds=self.rounds))
        await service.settle(service.collection)

    async def hybrids(self, service: Service) -> None:
        exact = await self.exact()
        async with AsyncExitStack() as stack:
            raw = await stack.enter_async_context(open_raw_sql(service, self.dataset, self.folder.path / "service"))
            sides: dict[str, Ask] = {
                hybrid.OURS: http_side(service),
                hybrid.TUNED: http_side(service, service.tuned_hybrid_request),
                hybrid.RAW: library_side(raw.search),
            }
            for name in ("txtai", "lancedb", "langchain"):
                if name not in self.installed:
                    continue
                try:
                    sides[name] = await self.hybrid_side(name, stack)
                except PeerError as error:
                    self.report.rows.append(failure(f"hybrid: {name}", error))
            self.report.rows += await hybrid.compare(sides, exact, rounds=self.rounds)

    async def exact(self) -> Exact:
        self.say("exact hybrid answers")
        return await exact_hybrid(self.dataset, hybrid.ASKED)

    async def hybrid_side(self, name: str, stack: AsyncExitStack) -> Ask:
        self.say(f"filling {name}")
        if name == "txtai":
            server = await stack.enter_async_context(open_txtai(self.dataset, self.installed[name], self.folder))
            self.loaded(name, await server.load())
            return http_side(server)
        peer = await stack.enter_async_context(self.library(name, self.installed[name]))
        self.loaded(name, await peer.load())
        self.report.settings[name] = peer.settings
        return library_side(peer.search)

    @asynccontextmanager
    async def library(self, name: str, environment: Environment) -> AsyncIterator[LibraryPeer]:
        async with AsyncExitStack() as stack:
            address = str(self.folder.subfolder("libraries") / name)
            if name == "langchain":
                address = await stack.enter_async_context(open_database(self.folder.path / "langchain"))
            given, logs = self.folder.path / "given", self.folder.logs
            yield await stack.enter_async_context(
                open_library(name, environment, given=given, address=address, logs=logs)
            )

    async def limits(self, service: Service) -> None:
        async with AsyncExitStack() as stack:
            peers = {}
            for name in ("hnswlib", *LIBRARIES_OF_LIMITS):
                peers[name] = await stack.enter_async_context(self.library(name, self.installed["limits"]))
                self.loaded(name, await peers[name].load())
                self.report.settings[name] = peers[name].settings
            measure = vector_search.Measure(self.dataset)
            vectors = [service.vector_request(query) for query in range(hybrid.ASKED)]
            graph = library_side(peers["hnswlib"].search)
            truth = measure.truth()
            near = measure.recall((await graph()).found, truth)
            self.report.rows += await limits.over_limit(
                "vector search",
                lambda: over_http(service, vectors),
                {"hnswlib": graph},
                {"hnswlib": f"its recall {near:.4f}"},
                rounds=self.rounds,
            )
            words = [service.lexical_request(query) for query in range(hybrid.ASKED)]
            self.report.rows += await limits.over_limit(
                "lexical search",
                lambda: over_http(service, words),
                {name: library_side(peers[name].search) for name in LIBRARIES_OF_LIMITS},
                {},
                rounds=self.rounds,
            )

    def loaded(self, name: str, seconds: float) -> None:
        rate = len(self.dataset) / seconds
        self.report.settings.setdefault("first load", {})[name] = f"{seconds:.1f} s ({rate:,.0f} rows/s)"

    def say(self, what: str) -> None:
        self.console.print(f"{time.strftime('%H:%M:%S')} {what} …", markup=False)
