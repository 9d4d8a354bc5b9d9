"""Keeps processes alive: starts each again when it dies, and gives up on one that will not live."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx

from service.local.child import Child, ChildSpec
from service.local.errors import StackError
from service.local.folder import StateFolder

Say = Callable[[str], None]

QUICK_SECONDS = 10.0  # A life shorter than this counts as a failed start.
QUICK_DEATHS = 5
PAUSES = (0.25, 0.5, 1.0, 2.0)  # before the second, third, … start in a row
READY_SECONDS = 300.0  # The first start of an embedding model from a slow disk takes a minute.
REMIND_SECONDS = 20.0
POLL_SECONDS = 0.05


@asynccontextmanager
async def started(
    specs: Sequence[ChildSpec], *, folder: StateFolder, hurry: asyncio.Event
) -> AsyncIterator[list[Child]]:
    """Starts in order, stops in the opposite order."""
    children: list[Child] = []
    try:
        for spec in specs:
            child = Child(spec, folder=folder, hurry=hurry)
            child.start()
            children.append(child)
        yield children
    finally:
        for child in reversed(children):
            await child.stop()


async def supervise(children: Sequence[Child], *, say: Say, announce: Callable[[], None]) -> None:
    """Announces once every ready URL answers 200, then goes on until cancelled; raises StackError to give up."""
    try:
        async with asyncio.TaskGroup() as keeping:
            for child in children:
                keeping.create_task(keep(child, say=say))
            for child in children:
                await until_ready(child, say=say)
            announce()
    except ExceptionGroup as failures:
        raise first_of(failures) from None


async def keep(child: Child, *, say: Say) -> None:
    quick = 0
    while True:
        begun = time.monotonic()
        status = await child.ended()
        quick = quick + 1 if time.monotonic() - begun < QUICK_SECONDS else 1
        if quick >= QUICK_DEATHS:
            raise StackError(
                f"The {child.spec.name} process ended {QUICK_DEATHS} times in a row, "
                f"last with {ending(status)}{last_words(child)} (log: {child.log})."
            )
        pause = PAUSES[quick - 1]
        say(
            f"The {child.spec.name} process ended with {ending(status)}; starting it again in {pause:g} s (log: {child.log})."
        )
        await asyncio.sleep(pause)
        child.start()


async def until_ready(child: Child, *, say: Say) -> None:
    """Asks its ready URL until that answers 200."""
    if child.spec.ready_url is None:
        return
    begun = reminded = time.monotonic()
    # No proxy of the environment stands between this machine and itself.
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        while True:
            try:
                if (await client.get(child.spec.ready_url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            now = time.monotonic()
            if now - begun > READY_SECONDS:
                raise StackError(
                    f"The {child.spec.name} process was not ready after {READY_SECONDS:.0f} s (log: {child.log})."
                )
            if now - reminded > REMIND_SECONDS:
                reminded = now
                say(f"Still waiting for the {child.spec.name} process (log: {child.log}).")
            await asyncio.sleep(POLL_SECONDS)


def ending(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"


def last_words(child: Child) -> str:
    lines = [line.strip() for line in child.words().splitlines() if line.strip()]
    return f", saying: {lines[-1]}" if lines else ""


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf, for groups of which one exception is the whole story.

    To be raised from `except`: what `except*` raises is itself a group before Python 3.11.4.
    """
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure
