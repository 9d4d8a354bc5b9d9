"""Part B: releases replace each other under load while the schema changes below them."""

import random
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count, pairwise

from rehearsal.actions import COLLECTION, World
from rehearsal.balancer import Balancer
from rehearsal.blocking import long_reader
from rehearsal.deployment import Deployment
from rehearsal.fill import age, fill, list_all, unread, until_finished
from rehearsal.ground import Ground
from rehearsal.invariants import count_differing, count_unfilled
from rehearsal.ledger import Ledger
from rehearsal.load import clients_at
from rehearsal.pace import find_rate
from rehearsal.plan import Plan
from rehearsal.records import Phase, Record, Records
from rehearsal.waits import (
    STALE_PLANS,
    LockWait,
    count_given_up,
    count_stale_plans,
    longest,
    named,
    read_lines,
    read_waits,
)
from service.cli.figures.texts import made_up_documents
from service.db.backfill import Backfill

BEFORE, EXPAND, BACKFILL, CONTRACT = "before", "expand", "backfill", "contract"
CHECKED = 100  # documents whose content is read in the end, beside the digests of all


@dataclass(frozen=True, kw_only=True)
class Size:
    """`window` is how long, in seconds, each judged phase is watched at least."""

    window: float = 20.0
    documents: int = 3_000
    broken: int = 300
    aged: int = 20_000


@dataclass
class Outcome:
    """What a live rehearsal found; the lists hold a sentence each."""

    pooling: str
    rate: float = 0.0
    load: float = 0.0
    phases: list[Phase] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    requests: int = 0
    lost: list[str] = field(default_factory=list)
    diverging: list[str] = field(default_factory=list)
    joined: bool = False  # a backfill joins an old and a new column on the way
    compared: int = 0  # times that old and new column were held against each other
    misled: list[str] = field(default_factory=list)  # gates that opened too early, or would not open
    stale_plans: int = 0
    wait: LockWait | None = None
    given_up: int = 0
    said: list[str] = field(default_factory=list)

    def phase(self, name: str) -> Phase | None:
        return next((phase for phase in self.phases if phase.name == name), None)


async def live(plan: Plan, size: Size, database: str, outcome: Outcome) -> None:
    """The whole of a change, from the oldest release alone to the newest alone; `database` has the oldest one's schema.

    What was found is in `outcome`, also when it breaks off.
    """
    ground, outcome.joined = plan.ground, bool(joined_on_the_way(plan))
    balancer = Balancer(await ground.make_key(database))
    world = World(balancer, Ledger(), Records(), texts(), count(1))
    deployment = Deployment(plan, database, balancer, world.records, outcome.said, outcome.misled)
    start = ground.log.stat().st_size
    try:
        await deployment.start(plan.releases[0])
        await fill(world, size.documents, size.broken)
        await age(ground, database, balancer, size.aged)
        outcome.rate, outcome.load = await find_rate(world)
        world.records.all.clear()
        start = ground.log.stat().st_size
        try:
            async with clients_at(outcome.rate, world):
                await change(deployment, size, outcome)
        finally:
            outcome.phases = world.records.phases(time.monotonic())
            outcome.failed, outcome.requests = world.records.failures(), len(world.records.all)
        await until_finished(balancer, COLLECTION)
        await hold_to_the_ledger(world, outcome)
    finally:
        await deployment.stop_all()
        await balancer.aclose()
        await read_logs(ground, database, start, outcome)


async def hold_to_the_ledger(world: World, outcome: Outcome) -> None:
    outcome.lost = world.ledger.compare(await list_all(world.balancer, COLLECTION))
    living = world.ledger.living()
    some = random.Random(1).sample(living, min(CHECKED, len(living)))
    outcome.lost += await unread(world.balancer, some)


async def read_logs(ground: Ground, database: str, start: int, outcome: Outcome) -> None:
    """Of the server from `start` on, and of every process."""
    lines = read_lines(ground.log, start)
    outcome.given_up = count_given_up(lines, database)
    if wait := longest(read_waits(lines, database)):
        async with ground.admin(database) as connection:
            outcome.wait = await named(wait, connection)
    shown = sum(sentence in (each.failure or "") for each in outcome.failed for sentence in STALE_PLANS)
    outcome.stale_plans = shown + count_stale_plans(ground.folder.logs.glob(f"{database}-*.log"))


def joined_on_the_way(plan: Plan) -> list[str]:
    """Backfills that the oldest release has not sealed."""
    return [each.name for each in plan.backfills.values() if each.until not in plan.stages[0].applied]


def texts() -> list[str]:
    return [str(document["text"]) for document in made_up_documents(500, words=80)]


async def change(deployment: Deployment, size: Size, outcome: Outcome) -> None:
    """The five steps, between two releases at a time."""
    async with deployment.phase(BEFORE, size.window):
        pass
    async with deployment.phase(EXPAND, size.window), reading(deployment):
        await deployment.expand()
    for old, new in pairwise(deployment.plan.releases):
        async with deployment.phase(f"{new} starts beside {old}"):
            await deployment.start(new)
        async with deployment.phase(f"{old} and {new}", size.window / 2):
            await deployment.contract()  # Refused, as far as the older one is in the way.
        await compare_columns(deployment, outcome)
        async with deployment.phase(f"{old} stops"):
            await deployment.stop(old)
        if due := await deployment.due_backfills():
            async with deployment.phase(BACKFILL, size.window):
                for backfill in due:
                    await deployment.backfill(backfill.name)
            await check_filled(deployment, due, outcome)
            await compare_columns(deployment, outcome)
        async with deployment.phase(CONTRACT, size.window), reading(deployment):
            await deployment.contract()
    left = deployment.revisions.keys() - await deployment.applied()
    outcome.misled += [f"{revision} has not run in the end" for revision in sorted(left)]


def reading(deployment: Deployment) -> AbstractAsyncContextManager[None]:
    """Whoever changes a table finds somebody there who reads it."""
    return long_reader(deployment.plan.ground, deployment.database)


async def compare_columns(deployment: Deployment, outcome: Outcome) -> None:
    """Where both columns live and every release keeps them alike."""
    applied = await deployment.applied()
    for backfill in deployment.plan.backfills.values():
        if backfill.after in applied and backfill.until not in applied:
            rows = await count_differing(deployment.plan.ground, deployment.database, backfill)
            outcome.compared += 1
            if rows:
                outcome.diverging.append(f"{rows} rows of {backfill.table} differ between old and new column")


async def check_filled(deployment: Deployment, backfills: list[Backfill], outcome: Outcome) -> None:
    """Some time after the backfill: what was written since was written in full."""
    for backfill in backfills:
        if rows := await count_unfilled(deployment.plan.ground, deployment.database, backfill):
            outcome.diverging.append(f"{rows} rows of {backfill.table} are without {', '.join(backfill.assign)} again")
