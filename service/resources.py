"""The one place where things are built and closed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import structlog
from pydantic import SecretStr

from service.blobs.client import BlobStoreSettings
from service.blobs.store import Blobs
from service.db.addresses import Address
from service.db.branch_note import check_prefix
from service.db.capacity import check_room
from service.db.commits import commit_token
from service.db.pooling import Door, check_pooler
from service.db.primary import Primary
from service.db.profiles import EmbeddingProfile, find_profile
from service.db.read_asyncpg import AsyncpgReader
from service.db.read_pool import PlacedReader, Reader
from service.db.read_psqlpy import PsqlpyReader
from service.db.read_replica import Replica
from service.db.retrieval import Statements
from service.db.roles import check_role
from service.domain.errors import UnavailableError
from service.embeddings.base import Embedder
from service.embeddings.loading import open_embedder, usable_cores
from service.rerankers.base import Reranker
from service.rerankers.loading import open_reranker
from service.settings import Settings
from service.telemetry.load_metrics import Loads
from service.telemetry.telemetry import Telemetry

log = structlog.get_logger(__name__)

RARE_CONNECTIONS = 2  # for the statement shapes beyond those that psqlpy keeps prepared


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    primary: Primary
    reader: Reader
    statements: Statements
    blobs: Blobs
    embedder: Embedder
    profile: EmbeddingProfile
    telemetry: Telemetry
    reranker: Reranker | None = None


@asynccontextmanager
async def open_resources(
    settings: Settings, *, telemetry: Telemetry | None = None, processes: int = 1
) -> AsyncIterator[Resources]:
    """Checks the poolers, connects, checks the role and the profile, loads the models; closes in the opposite order.

    `processes` of this kind share the machine. Raises WrongRoleError, WrongPoolerError, TooManyConnectionsError,
    ProfileMissingError or UnavailableError, each in one sentence.
    """
    await check_poolers(
        settings, processes=processes
    )  # first, because through the wrong one everything else fails in riddles
    async with AsyncExitStack() as stack:
        primary = open_primary(settings)
        stack.push_async_callback(primary.close)
        await check_role(primary)
        await check_prefix(primary, settings.s3_prefix)
        threads = settings.embedding_threads or max(1, usable_cores() // processes)
        embedder = await asyncio.to_thread(open_own_embedder, settings, threads=threads)
        stack.push_async_callback(embedder.close)
        reranker = await asyncio.to_thread(open_reranker, settings.reranker_model, threads=threads)
        if reranker is not None:
            stack.push_async_callback(reranker.close)
        async with primary.begin() as connection:
            profile = await find_profile(connection, embedder.name)
        telemetry, statements = telemetry or Telemetry(), Statements()
        reader = await open_reader(settings, primary, telemetry)
        stack.push_async_callback(reader.close)
        blobs = open_blobs(settings)
        stack.push_async_callback(blobs.close)
        loads = Loads(lambda: {"primary": primary.load(), **reader.loads()}, embedder.load, statements.load)
        telemetry.metrics.registry.register(loads)
        stack.callback(telemetry.metrics.registry.unregister, loads)
        yield Resources(settings, primary, reader, statements, blobs, embedder, profile, telemetry, reranker)


def open_own_embedder(settings: Settings, *, threads: int | None = None) -> Embedder:
    return open_embedder(
        settings.embedding_model,
        threads=threads or settings.embedding_threads,
        precision=settings.embedding_precision,
        runtime=settings.embedding_runtime,
        cache=settings.embedding_cache,
    )


async def check_poolers(settings: Settings, *, processes: int) -> None:
    """Raises WrongPoolerError and TooManyConnectionsError.

    A replica that is away is no reason not to start: the primary answers until it is back.
    """
    main, search = doors(settings)
    tracked = settings.pg_statement_mode == "tracked"
    pooling = await check_pooler(main, tracked=tracked)
    here, there = connections(settings)
    await check_room(main, pooling=pooling, wanted=processes * here.total, because=here.said(processes))
    try:
        pooling = await check_pooler(search, tracked=tracked)
        await check_room(search, pooling=pooling, wanted=processes * there.total, because=there.said(processes))
    except UnavailableError as error:
        log.warning("the search database is not tested", reason=str(error))


@dataclass(frozen=True, slots=True)
class Connections:
    """What one process may open to one server, by the setting that says so."""

    pools: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.pools.values())

    def said(self, processes: int) -> str:
        shares = " + ".join(f"{name} {size}" for name, size in self.pools.items())
        return shares if processes == 1 else f"SERVE_WORKERS {processes} * ({shares})"


def connections(settings: Settings) -> tuple[Connections, Connections]:
    """To the server of DATABASE_URL, and to that of SEARCH_DATABASE_URL, which is often the same."""
    own, search = (address_of(url, settings) for url in (settings.database_url, settings.search_database_url))
    main = {"DATABASE_POOL_SIZE": settings.database_pool_size}
    reading = {"SEARCH_POOL_SIZE": settings.search_pool_size}
    if settings.search_driver == "psqlpy":
        reading["rare shapes"] = RARE_CONNECTIONS
    if search.place == own.place:
        both = Connections(main | reading)
        return both, both
    return Connections(main | {"SEARCH_PRIMARY_POOL_SIZE": settings.search_primary_pool_size}), Connections(reading)


def doors(settings: Settings) -> tuple[Door, Door]:
    return (
        Door("DATABASE_URL", address_of(settings.database_url, settings), unprepared=True),
        Door(
            "SEARCH_DATABASE_URL",
            address_of(settings.search_database_url, settings),
            unprepared=settings.search_driver == "asyncpg",
        ),
    )


def address_of(url: SecretStr, settings: Settings) -> Address:
    return Address.parse(url.get_secret_value(), tls=settings.database_tls, ca_file=settings.database_ca_file)


def open_primary(settings: Settings) -> Primary:
    address = address_of(settings.database_url, settings)
    return Primary(address, pool_size=settings.database_pool_size, tracked=settings.pg_statement_mode == "tracked")


async def open_reader(settings: Settings, primary: Primary, telemetry: Telemetry) -> Reader:
    """Of SEARCH_DATABASE_URL; where that is another server than DATABASE_URL, with the way to the primary beside it."""
    own, search = (address_of(url, settings) for url in (settings.database_url, settings.search_database_url))
    reader = open_search_door(search, settings)
    if search.place == own.place:
        return reader
    return Replica(
        reader,
        AsyncpgReader(
            replace(search, host=own.host, port=own.port, database=own.database),
            pool_size=settings.search_primary_pool_size,
            queue=settings.search_queue,
            tracked=settings.pg_statement_mode == "tracked",
        ),
        system=(await commit_token(primary)).system,
        wait_seconds=settings.search_wait_ms / 1_000,
        note=telemetry.read_from_replica,
    )


def open_search_door(address: Address, settings: Settings) -> PlacedReader:
    tracked, queue = settings.pg_statement_mode == "tracked", settings.search_queue
    if settings.search_driver == "asyncpg":
        return AsyncpgReader(address, pool_size=settings.search_pool_size, queue=queue, tracked=tracked)
    rare = AsyncpgReader(address, pool_size=RARE_CONNECTIONS, queue=queue, tracked=tracked)
    return PsqlpyReader(address, pool_size=settings.search_pool_size, queue=queue, tracked=tracked, rare=rare)


def open_blobs(settings: Settings) -> Blobs:
    return Blobs(
        BlobStoreSettings(
            endpoint_url=settings.s3_endpoint_url,
            bucket=settings.s3_bucket,
            access_key_id=settings.s3_access_key_id.get_secret_value(),
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
            region=settings.s3_region,
            prefix=settings.s3_prefix,
        )
    )
