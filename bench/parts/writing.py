"""Searches at a constant rate while documents are added, replaced and deleted, and the same without, in turns."""

import statistics
from collections.abc import Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

import orjson

from bench.deck import Card
from bench.filling import BATCH, client_of
from bench.made_up import made_up
from bench.measured import measure_sent
from bench.series import slim
from bench.session import Load, Session
from bench.wire import Sent, Stream
from service.cli.settle import wait_until_settled

SHARE = 0.5  # Of the knee: a service that has room for what is written.
OTHER = 7_919  # The seed of texts that no dataset has.
TURNS = (False, True, True, False)
KINDS = ("add", "replace", "delete")


async def writing(session: Session, *, knee: float) -> dict[str, Any]:
    """Every third write adds, replaces, or deletes; texts are embedded by the worker. Made up words, so that no search
    finds what is written instead of what it should: recall stays comparable.
    """
    pace = session.pace
    count = int(pace.writes_per_second * pace.writing)
    await put_first(session, 2 * count)
    found: dict[bool, list[list[Sent]]] = {True: [], False: []}
    figures: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for turn, with_writes in enumerate(TURNS):
        load = Load(hot=False, rate=knee * SHARE, seconds=pace.writing)
        beside: Sequence[Stream] = ()
        if with_writes:
            first = count * sum(TURNS[:turn])
            deck = session.write(cards(session, range(first, first + count)))
            beside = [Stream(str(deck), "open", rate=pace.writes_per_second, seconds=pace.writing)]
        measured, sent = await session.run(load, *beside)
        figures[with_writes].append(slim(measured))
        found[with_writes].append(sent)
    both = {which: [sent for turn in found[which] for sent in turn] for which in (True, False)}
    p99 = {which: statistics.median(each["latency"]["p99"] for each in figures[which]) for which in (True, False)}
    return {
        "rate": knee * SHARE,
        "writes_per_second": pace.writes_per_second,
        "alone": {
            **measure_sent([each for each in both[False] if each.query >= 0]).written(),
            **session.quality.assess(both[False], "hybrid"),
        },
        "while_writing": {
            **measure_sent([each for each in both[True] if each.query >= 0]).written(),
            **session.quality.assess(both[True], "hybrid"),
        },
        "writes": {
            kind: {**measure_sent([each for each in both[True] if each.label == kind]).written(), "histogram": None}
            for kind in KINDS
        },
        "p99_ratio": p99[True] / p99[False] if p99[False] else None,
        "turns": [{"writes": which, **each} for which in (False, True) for each in figures[which]],
    }


async def put_first(session: Session, count: int) -> None:
    """What will be replaced and deleted."""
    async with client_of(session.place) as client:
        documents = [body(number) for number in range(count)]
        for start in range(0, count, BATCH):
            await client.send_batch(session.collection, b"\n".join(documents[start : start + BATCH]))
        await wait_until_settled(client, session.collection, quiet=True)


def cards(session: Session, numbers: range) -> list[Card]:
    documents = f"/v1/collections/{session.collection}/documents"
    made = []
    for number in numbers:
        kind, named = KINDS[number % len(KINDS)], f"{documents}/{quote(name(number), safe='')}"
        if kind == "add":
            made.append(Card(kind, "POST", documents, body(number, added=True).decode()))
        elif kind == "replace":
            made.append(Card(kind, "PUT", named, body(number, again=True).decode()))
        else:
            made.append(Card(kind, "DELETE", named, "", headers={"If-Match": "*"}))
    return made


def name(number: int) -> str:
    return f"written-{number}"


def body(number: int, *, added: bool = False, again: bool = False) -> bytes:
    piece = next(islice(made_up(OTHER + number + 100_000 * again), 1))
    return orjson.dumps(
        {
            "external_id": f"added-{number}" if added else name(number),
            "title": piece.title,
            "text": piece.text,
            "attributes": {"u": number % 10_000},
        }
    )
