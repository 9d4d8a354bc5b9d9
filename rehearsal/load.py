"""Clients that come at a constant rate, whatever the answers take, and read and write in every way."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from rehearsal.actions import ACTIONS, UnexpectedAnswerError, World
from rehearsal.records import Record

MOST_OPEN = 400  # More than that, and the service has stopped answering.


@dataclass
class Client:
    """One of several: its own dice, and an arrival every `gap` seconds."""

    world: World
    chance: random.Random
    gap: float
    open: set[asyncio.Task[None]] = field(default_factory=set)

    async def arrive(self, stop: asyncio.Event) -> None:
        """Until `stop`; what is under way then is waited for."""
        due = time.monotonic() + self.gap * self.chance.random()
        names, weights = list(ACTIONS), [weight for _, weight in ACTIONS.values()]
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            name = self.chance.choices(names, weights)[0]
            if len(self.open) < MOST_OPEN:
                task = asyncio.create_task(self.act(name, ACTIONS[name][0], due))
                self.open.add(task)
                task.add_done_callback(self.open.discard)
            else:
                self.note(self.world.records.phase, name, "", due, f"{MOST_OPEN} requests of one client are unanswered")
            due += self.gap
        await asyncio.gather(*self.open)

    async def act(self, name: str, action: Callable[[World, random.Random], Awaitable[str]], due: float) -> None:
        phase, failure, release = self.world.records.phase, None, ""
        try:
            release = await action(self.world, self.chance)
        except UnexpectedAnswerError as error:
            failure, release = str(error), error.release
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__}: {error}"
        self.note(phase, name, release, due, failure)

    def note(self, phase: str, name: str, release: str, due: float, failure: str | None) -> None:
        self.world.records.all.append(Record(phase, name, release, time.monotonic() - due, failure))


@asynccontextmanager
async def clients_at(rate: float, world: World, *, clients: int = 4) -> AsyncIterator[None]:
    """`rate` arrivals a second, from all of them together, until the block ends."""
    stop = asyncio.Event()
    each = [Client(world, random.Random(number), clients / rate) for number in range(clients)]
    running = [asyncio.create_task(client.arrive(stop)) for client in each]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)
