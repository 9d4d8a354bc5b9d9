"""Postgres and the object store on one folder, for `run` and for the tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.local.child import Child
from service.local.folder import StateFolder
from service.local.leftovers import end_leftovers
from service.local.object_store import EmbeddedObjectStore
from service.local.postgres import EmbeddedPostgres
from service.local.supervisor import first_of


@dataclass(frozen=True)
class Stack:
    folder: StateFolder
    postgres: EmbeddedPostgres
    object_store: EmbeddedObjectStore

    @property
    def children(self) -> list[Child]:
        return [part.child for part in (self.object_store, self.postgres) if part.child is not None]

    @property
    def api_key(self) -> str:
        """Empty before the service's tables exist."""
        return self.folder.kept("api_key")

    def environment(self) -> dict[str, str]:
        """What the service needs to reach the object store; the database's addresses depend on the roles."""
        return {
            "S3_ENDPOINT_URL": self.object_store.endpoint_url,
            "S3_BUCKET": self.object_store.bucket,
            "S3_ACCESS_KEY_ID": self.object_store.access_key_id,
            "S3_SECRET_ACCESS_KEY": self.object_store.secret_access_key,
        }


@contextmanager
def held_folder(path: Path) -> Iterator[StateFolder]:
    """The folder for this process alone, with nothing of an earlier run still at work on it."""
    folder = StateFolder(path)
    with folder.lock():
        end_leftovers(folder)
        yield folder


@asynccontextmanager
async def running_stack(
    folder: StateFolder, *, settings: Mapping[str, str] | None = None, hurry: asyncio.Event | None = None
) -> AsyncIterator[Stack]:
    """Starts both parts on a held folder and stops both at the end; raises StackError when one cannot start."""
    postgres = EmbeddedPostgres(folder, settings=settings, hurry=hurry)
    object_store = EmbeddedObjectStore(folder, hurry=hurry)
    try:
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(object_store.start())
                starting.create_task(postgres.start())
        except ExceptionGroup as failures:
            raise first_of(failures) from None
        yield Stack(folder, postgres, object_store)
    finally:
        await postgres.stop()
        await object_store.stop()


@asynccontextmanager
async def embedded_stack(folder: Path, *, settings: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
    """Both parts on a folder of their own; `settings` are of Postgres, such as fsync=off in tests."""
    with held_folder(folder) as held:
        async with running_stack(held, settings=settings) as stack:
            yield stack
