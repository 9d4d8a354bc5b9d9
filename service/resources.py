"""The one place where things are built and closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from service.blobs.client import BlobStoreSettings
from service.blobs.store import Blobs
from service.db.addresses import Address
from service.db.primary import Primary
from service.db.profiles import EmbeddingProfile, find_profile
from service.db.read_asyncpg import AsyncpgReader
from service.db.read_pool import Reader
from service.db.read_psqlpy import PsqlpyReader
from service.db.retrieval import Statements
from service.db.roles import check_role
from service.embeddings.base import Embedder
from service.embeddings.loading import open_embedder
from service.settings import Settings

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


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Connects, checks the role and the profile, loads the embedder; closes in the opposite order.

    Raises WrongRoleError, ProfileMissingError or UnavailableError, each in one sentence.
    """
    async with AsyncExitStack() as stack:
        primary = open_primary(settings)
        stack.push_async_callback(primary.close)
        await check_role(primary)
        embedder = await asyncio.to_thread(open_embedder, settings.embedding_model, threads=settings.embedding_threads)
        stack.push_async_callback(embedder.close)
        async with primary.begin() as connection:
            profile = await find_profile(connection, embedder.name)
        reader = open_reader(settings)
        stack.push_async_callback(reader.close)
        blobs = open_blobs(settings)
        stack.push_async_callback(blobs.close)
        yield Resources(settings, primary, reader, Statements(), blobs, embedder, profile)


def open_primary(settings: Settings) -> Primary:
    address = Address.parse(
        settings.database_url.get_secret_value(), tls=settings.database_tls, ca_file=settings.database_ca_file
    )
    return Primary(address, pool_size=settings.database_pool_size, tracked=settings.pg_statement_mode == "tracked")


def open_reader(settings: Settings) -> Reader:
    address = Address.parse(
        settings.search_database_url.get_secret_value(), tls=settings.database_tls, ca_file=settings.database_ca_file
    )
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
        )
    )
