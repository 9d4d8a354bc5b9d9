"""Two services in the same rounds: what the machine does meanwhile happens to both, so that small differences count."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from bench.dataset import Dataset
from bench.filling import fill
from bench.machine import machine
from bench.opened import Target, opened_place, opened_session
from bench.parts.closed import beside as closed_beside
from bench.parts.noise import noise
from bench.run import Options, Say, assessed, describe, say_noise
from bench.session import Session


async def run_beside(options: Options, other: Target, dataset: Dataset, *, say: Say) -> list[dict[str, Any]]:
    """The closed loops of both, each as a result of its own; the second is called `<name>-other`."""
    before, lexemes = machine(), await assessed(dataset, options.pace, say=say)
    sessions: list[Session] = []
    async with AsyncExitStack() as stack:
        for target in (options.target, other):
            place = await stack.enter_async_context(opened_place(target, options.folder))
            session, client = await stack.enter_async_context(opened_session(place, dataset, lexemes, options.pace))
            say(f"Filling: {len(dataset):,} documents")
            await fill(client, session.collection, dataset, range(len(dataset)), vectors=True)
            sessions.append(session)
        apart = await noise(sessions[0])
        say_noise(apart, say=say)
        found = await closed_beside(sessions)
    return [
        describe(replace(options, name=name, target=target), dataset, before)
        | {"noise": apart, "loads": loads, "paired": paired, "ingest": []}
        for name, target, (loads, paired) in zip(
            (options.name, f"{options.name}-other"), (options.target, other), found, strict=True
        )
    ]
