"""A load balancer that drains: an instance that is about to stop gets no new request, and finishes those it has."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any

import httpx

from rehearsal.instances import Instance

DRAIN_SECONDS = 20.0
LIMITS = httpx.Limits(max_connections=200, max_keepalive_connections=20)


class Balancer:
    """Sends each request to the next instance in the rotation, over connections that are kept."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._rotation: list[tuple[Instance, httpx.AsyncClient]] = []
        self._open: Counter[str] = Counter()
        self._turn = count()

    @property
    def rotation(self) -> Sequence[Instance]:
        return [instance for instance, _ in self._rotation]

    def add(self, instance: Instance) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        client = httpx.AsyncClient(base_url=instance.url, headers=headers, timeout=30, limits=LIMITS, trust_env=False)
        self._rotation.append((instance, client))

    async def send(self, method: str, path: str, **request: Any) -> tuple[Instance, httpx.Response]:  # noqa: ANN401  httpx's own
        """Raises what httpx raises: nothing is tried twice."""
        instance, client = self._rotation[next(self._turn) % len(self._rotation)]
        self._open[instance.url] += 1
        try:
            return instance, await client.request(method, path, **request)
        finally:
            self._open[instance.url] -= 1

    async def drain(self, instance: Instance) -> None:
        """Returns when it has answered all that it was sent."""
        client = next(client for each, client in self._rotation if each is instance)
        self._rotation = [(each, other) for each, other in self._rotation if each is not instance]
        async with asyncio.timeout(DRAIN_SECONDS):
            while self._open[instance.url]:  # noqa: ASYNC110  a counter, and no event for nought
                await asyncio.sleep(0.01)
        await client.aclose()

    async def aclose(self) -> None:
        for _, client in self._rotation:
            await client.aclose()
