"""API and worker processes of a release, started and ended as a deployment does."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx

from rehearsal.failures import RehearsalError
from rehearsal.ground import Ground
from rehearsal.releases import Release
from service.local.child import Child, ChildSpec
from service.local.ports import LOOPBACK, free_port

READY_SECONDS = 60.0
POLL_SECONDS = 0.05
ANNOUNCED = "worker started"


@dataclass(frozen=True)
class Instance:
    """A running process of a release; of a worker, `url` is empty."""

    release: Release
    kind: str
    child: Child
    url: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.release}"

    async def stop(self) -> None:
        """As a deployment does: SIGTERM, and time to finish what is under way."""
        await self.child.stop()


async def start_api(ground: Ground, database: str, release: Release) -> Instance:
    """Returns once it is ready. Raises RehearsalError with its last words."""
    port = free_port()
    environment = ground.environment(database, release.tree) | {"HOST": LOOPBACK, "PORT": str(port)}
    instance = Instance(release, "api", spawn(ground, database, release, ["serve"], environment))
    instance = replace(instance, url=f"http://{LOOPBACK}:{port}")
    try:
        await until_ready(instance)
    except BaseException:
        await instance.stop()
        raise
    return instance


async def start_worker(ground: Ground, database: str, release: Release) -> Instance:
    environment = ground.environment(database, release.tree)
    instance = Instance(release, "worker", spawn(ground, database, release, ["worker"], environment))
    try:
        await until_announced(instance)
    except BaseException:
        await instance.stop()
        raise
    return instance


def spawn(ground: Ground, database: str, release: Release, words: list[str], environment: dict[str, str]) -> Child:
    spec = ChildSpec(
        name=f"{database}-{words[0]}-{release}",
        argv=[sys.executable, "-m", "service", *words],
        environment=environment,
        directory=release.tree,
        patience=20.0,
    )
    child = Child(spec, folder=ground.folder)
    child.start()
    return child


async def until_ready(instance: Instance) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            check_running(instance)
            try:
                if (await client.get(f"{instance.url}/readyz")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_SECONDS)


async def until_announced(instance: Instance) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while ANNOUNCED not in instance.child.words():
            check_running(instance)
            await asyncio.sleep(POLL_SECONDS)


def check_running(instance: Instance) -> None:
    if not instance.child.running:
        lines = [line for line in instance.child.words().splitlines() if line.strip()]
        raise RehearsalError(f"the {instance.name} did not start: {lines[-1] if lines else 'it gave no reason'}")


@asynccontextmanager
async def running(ground: Ground, database: str, *releases: Release) -> AsyncIterator[list[Instance]]:
    """An API and a worker of each, started and stopped at once; the APIs, in the order of the releases."""
    starting = [
        asyncio.ensure_future(start(ground, database, release))
        for release in releases
        for start in (start_api, start_worker)
    ]
    try:
        instances = await asyncio.gather(*starting)
        yield [instance for instance in instances if instance.kind == "api"]
    finally:
        for task in starting:
            task.cancel()
        ended = await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(instance.stop() for instance in ended if isinstance(instance, Instance)))
