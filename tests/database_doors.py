"""Other ways to the database than the service's own: the owner's, and one that can be cut."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from service.settings import Settings


class as_admin:  # noqa: N801
    """The database's superuser: what no client and no role of the service may do."""

    def __init__(self, settings: Settings) -> None:
        direct = settings.database_direct_url
        assert direct is not None
        self.url = direct.get_secret_value()

    async def __aenter__(self) -> asyncpg.Connection:
        self.connection = await asyncpg.connect(self.url)
        await self.connection.execute("set role hybrid_owner")
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


class proxy:  # noqa: N801  read as a verb
    """A way to the database that can be cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.writers: list[asyncio.StreamWriter] = []
        self.is_cut = False

    async def __aenter__(self) -> tuple[int, Callable[[], Awaitable[None]]]:
        self.server = await asyncio.start_server(self.forward, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1], self.cut

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers.append(back)
        if self.is_cut:  # while this one was on its way
            back.transport.abort()
        await asyncio.gather(self.pump(reader, back), self.pump(there, writer))

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while block := await reader.read(65_536):
                writer.write(block)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def cut(self) -> None:
        self.is_cut = True
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def __aexit__(self, *_: object) -> None:
        await self.cut()
