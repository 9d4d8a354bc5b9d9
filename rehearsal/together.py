"""Several pieces of work at once; when one fails, the others end before its exception goes on."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]], *, at_once: int) -> list[T]:
    """In the order of the work. One exception, not a group: it is a sentence for the user."""
    turn = asyncio.Semaphore(at_once)

    async def one(each: Coroutine[Any, Any, T]) -> T:
        async with turn:
            return await each

    each = list(work)
    tasks = [asyncio.create_task(one(coroutine)) for coroutine in each]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for coroutine in each:
            coroutine.close()  # of one that never had its turn
