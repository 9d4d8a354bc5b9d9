"""The whole benchmark, one part after the other, into one result."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench import inside
from bench.dataset import Dataset
from bench.failures import BenchError
from bench.filling import Filled, client_of, fill, make_collection
from bench.machine import machine, revision, versions
from bench.opened import Target, opened_place, opened_session
from bench.pace import Pace
from bench.parts.closed import closed
from bench.parts.filters import recall_curve, selectivity
from bench.parts.growth import stage
from bench.parts.noise import noise
from bench.parts.steady import steady
from bench.parts.writing import writing
from bench.quality import Lexemes, read_lexemes
from bench.session import Session
from service.cli.client import ServiceClient
from service.settings import Settings

Say = Callable[[str], None]
Keep = Callable[[dict[str, Any]], None]
ASSESSED_ONE_IN = 12  # Of the cold queries: an exact answer takes longer than a served one.


@dataclass(frozen=True, slots=True)
class Options:
    """`folder` is where a service of our own keeps everything."""

    name: str
    pace: Pace
    target: Target | None
    folder: Path


async def run(options: Options, dataset: Dataset, *, say: Say, keep: Keep) -> None:
    """`keep` gets what there is after each part, so that whoever interrupts it has that much."""
    begun = time.monotonic()
    before, lexemes = machine(), await assessed(dataset, options.pace, say=say)
    async with (
        opened_place(options.target, options.folder) as place,
        opened_session(place, dataset, lexemes, options.pace) as (session, client),
    ):
        settings = inside.settings_of(place.folder, os.environ)
        found = describe(options, dataset, before) | {"complete": False}
        async for part in parts(session, client, settings, say=say):
            found |= part
            found["memory"] = place.watched.memory()
            found["client_share"] = round(session.generator.busiest, 3)
            found["seconds"] = round(time.monotonic() - begun, 1)
            keep(found)
    keep(found | {"complete": True, "seconds": round(time.monotonic() - begun, 1)})


async def assessed(dataset: Dataset, pace: Pace, *, say: Say) -> Lexemes:
    say(f"The exact answers to {dataset.source}")
    queries = [*range(pace.hot), *range(pace.hot, len(dataset.queries), ASSESSED_ONE_IN)]
    return await read_lexemes(dataset, queries)


def describe(options: Options, dataset: Dataset, before: Mapping[str, Any]) -> dict[str, Any]:
    digest = sha256("\0".join([*dataset.ids, *dataset.texts, *dataset.queries]).encode("utf-8", "surrogatepass"))
    return {
        "name": options.name,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "service": "own" if options.target is None else "elsewhere",
        "revision": revision(),
        "machine": dict(before),
        "versions": versions(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("EMBEDDING_")},
        "pace": asdict(options.pace),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "documents": len(dataset),
            "queries": len(dataset.queries),
            "seed": dataset.seed,
            "digest": digest.hexdigest()[:16],
        },
    }


async def parts(
    session: Session, client: ServiceClient, settings: Settings | None, *, say: Say
) -> AsyncIterator[dict[str, Any]]:
    """In an order in which nothing disturbs what comes after it."""
    empty = await sizes(settings)
    ingest: list[dict[str, Any]] = []
    growth: list[dict[str, Any]] = []
    done = 0
    for size in session.pace.sizes:
        say(f"Filling: {size:,} documents")
        filled = await fill(client, session.collection, session.dataset, range(done, size), vectors=True)
        ingest.append(as_ingest(filled, upto=size))
        if not done:
            apart = await noise(session)
            say_noise(apart, say=say)
            yield {"noise_small": apart, "noise": apart}
        done = size
        growth += await stage(session, size)
    yield {"ingest": ingest, "growth": growth, "disk": per_document(empty, await sizes(settings), documents=done)}
    yield await database(session, settings)
    say("The noise at this size")
    yield {"noise": await noise(session)}
    say("Closed loops")
    loads, paired = await closed(session)
    yield {"loads": loads, "paired": paired}
    say("Filters, and recall over latency")
    yield {"filters": await selectivity(session), "curve": await recall_curve(session)}
    most = {load["embedding"]: load["per_second"] for load in loads if load["mode"] == "hybrid"}
    async for part in open_loops(session, most, say=say):
        yield part
    say("Documents that the service embeds")
    yield {"ingest": [*ingest, await embedded(session)]}


async def open_loops(session: Session, most: Mapping[str, float], *, say: Say) -> AsyncIterator[dict[str, Any]]:
    """`most` is what closed loops got a second, by whether embeddings were cached."""
    say("Open loops: the knee, and 80 % of it")
    found: list[dict[str, Any]] = []
    missing: list[str] = []
    for embedding in ("cached", "cold"):
        try:
            found.append(await steady(session, hot=embedding == "cached", closed_per_second=most[embedding]))
        except BenchError as error:  # A service without a knee has other figures.
            missing.append(f"the open loop, {embedding}: {error}")
        yield {"steady": found, "not_measured": missing}
    say("Searches while documents are written")
    yield {"writing": await writing(session, knee=found[-1]["knee"] if found else most["cold"])}


async def embedded(session: Session) -> dict[str, Any]:
    """A collection of its own, whose documents come without vectors."""
    name = f"{session.collection}-text"
    async with client_of(session.place) as client:
        await make_collection(client, name)
        try:
            count = min(session.pace.embedded, len(session.dataset))
            return as_ingest(await fill(client, name, session.dataset, range(count), vectors=False), upto=count)
        finally:
            await client.delete_collection(name)


def as_ingest(filled: Filled, *, upto: int) -> dict[str, Any]:
    return asdict(filled) | {"per_second": round(filled.per_second, 1), "upto": upto}


def say_noise(found: Mapping[str, Any], *, say: Say) -> None:
    """Before any figure, so that nobody reads one without it."""
    for label, figures in found.items():
        apart = ", ".join(f"{name} {each['apart']:.1%}" for name, each in figures.items())
        say(f"A against A, {label}: medians apart by {apart}; a smaller difference says nothing")


async def sizes(settings: Settings | None) -> dict[str, dict[str, Any]]:
    return {} if settings is None else await inside.read_sizes(settings)


def per_document(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]], *, documents: int
) -> list[dict[str, Any]]:
    """What each table and index has grown by, in bytes a document, the heaviest first."""
    grown = [
        {
            "name": name,
            "kind": each["kind"],
            "bytes_per_document": round((each["bytes"] - before.get(name, {"bytes": 0})["bytes"]) / documents, 1),
        }
        for name, each in after.items()
    ]
    return sorted(
        (each for each in grown if each["bytes_per_document"] > 0), key=lambda each: -each["bytes_per_document"]
    )


async def database(session: Session, settings: Settings | None) -> dict[str, Any]:
    if settings is None:
        return {"database": None}
    dataset = session.dataset
    plan = await inside.explain(
        settings, session.place.key, session.collection, dataset.queries[0], dataset.query_vectors[0]
    )
    return {
        "database": {
            "versions": await inside.read_versions(settings),
            "settings": await inside.read_settings(settings),
            "plan": plan,
        }
    }
