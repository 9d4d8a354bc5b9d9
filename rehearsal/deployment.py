"""The hand on the switches: starts and stops releases, runs the commands of a change, and knows what a gate must say."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from rehearsal.balancer import Balancer
from rehearsal.commands import Answer, run
from rehearsal.failures import RehearsalError
from rehearsal.instances import Instance, start_api, start_worker
from rehearsal.invariants import count_unfilled
from rehearsal.plan import Plan
from rehearsal.records import Records
from rehearsal.releases import Release
from rehearsal.schemas import Revision, read_revisions
from service.db.backfill import Backfill
from service.domain.releases import order


@dataclass
class Deployment:
    """What runs on one database. `said` takes each command's outcome, `misled` each gate that was wrong."""

    plan: Plan
    database: str
    balancer: Balancer
    records: Records
    said: list[str]
    misled: list[str]
    running: dict[str, list[Instance]] = field(default_factory=dict)

    @asynccontextmanager
    async def phase(self, name: str, seconds: float = 0.0) -> AsyncIterator[None]:
        """What happens inside belongs to it; it lasts at least so long."""
        begun = time.monotonic()
        self.records.enter(name, begun)
        yield
        await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))

    async def start(self, release: Release) -> None:
        """An API and a worker; clients come when it is ready."""
        ground = self.plan.ground
        api, worker = await asyncio.gather(
            start_api(ground, self.database, release), start_worker(ground, self.database, release)
        )
        self.running[release.version] = [api, worker]
        self.balancer.add(api)

    async def stop(self, release: Release) -> None:
        """Out of the rotation first, then drained, then told to stop."""
        instances = self.running.pop(release.version)
        for instance in instances:
            if instance.url:
                await self.balancer.drain(instance)
        await asyncio.gather(*(instance.stop() for instance in instances))
        for instance in instances:
            status = instance.child.process.returncode if instance.child.process else None
            if status:
                self.misled.append(f"the {instance.name} ended with status {status} when it was told to stop")

    async def stop_all(self) -> None:
        everything = [instance for instances in self.running.values() for instance in instances]
        self.running.clear()
        await asyncio.gather(*(instance.stop() for instance in everything))

    async def command(self, *words: str) -> Answer:
        """`service migrate WORDS` of the newest release, which has all migrations."""
        tree = self.plan.newest.tree
        environment = self.plan.ground.environment(self.database, tree)
        answer = await run(tree, "-m", "service", "migrate", *words, environment=environment, gently=True)
        self.said.append(f"migrate {' '.join(words)}: {answer.seconds:.1f} s, {answer.last_words}")
        return answer

    async def expand(self) -> None:
        await self.must("expand")
        before = await self.applied()
        missing = [r.id for r in self.revisions.values() if r.phase == "expand" and r.id not in before]
        if missing:
            raise RehearsalError(f"after `migrate expand` these have not run: {', '.join(missing)}")

    async def backfill(self, name: str) -> None:
        await self.must("backfill", name)

    async def must(self, *words: str) -> None:
        answer = await self.command(*words)
        if answer.status:
            raise RehearsalError(f"`migrate {' '.join(words)}` failed: {answer.last_words}")

    async def contract(self) -> None:
        """Runs it, and compares what ran with what may run beside the living releases."""
        before = await self.applied()
        expected = await self.open(before)
        answer = await self.command("contract")
        ran = await self.applied() - before
        if early := ran - expected:
            self.misled.append(f"{', '.join(sorted(early))} ran while {', '.join(self.running)} lived")
        if closed := expected - ran:
            self.misled.append(
                f"{', '.join(sorted(closed))} did not run though nothing forbids it: {answer.last_words}"
            )
        if not ran and answer.refusal is None:
            self.misled.append(f"`migrate contract` ran nothing and did not say why: {answer.last_words}")
        if ran:
            await self.plan.ground.reconnect(self.database)

    async def open(self, applied: set[str]) -> set[str]:
        """The contract steps whose time has come."""
        oldest = min(map(order, self.running))
        done, opened = set(applied), set()
        for revision in self.revisions.values():
            if revision.phase != "contract" or revision.id in done or not revision.below <= done:
                continue
            lives = revision.oldest_release is None or oldest >= order(revision.oldest_release)
            if lives and not await self.unfinished(revision):
                done.add(revision.id)
                opened.add(revision.id)
        return opened

    async def unfinished(self, revision: Revision) -> bool:
        known = self.plan.backfills
        counts = [await count_unfilled(self.plan.ground, self.database, known[name]) for name in revision.backfills]
        return any(counts)

    async def due_backfills(self) -> list[Backfill]:
        """Whose columns both live, and which every running release can keep filled."""
        applied, oldest = await self.applied(), min(map(order, self.running))
        due = []
        for backfill in self.plan.backfills.values():
            seals = self.revisions.get(backfill.until)
            ready = seals is None or seals.oldest_release is None or oldest >= order(seals.oldest_release)
            if ready and backfill.after in applied and backfill.until not in applied:
                due.append(backfill)
        return due

    async def applied(self) -> set[str]:
        async with self.plan.ground.admin(self.database) as connection:
            return await read_applied(connection)

    @property
    def revisions(self) -> dict[str, Revision]:
        return read_revisions(self.plan.newest.tree)


async def read_applied(connection: asyncpg.Connection) -> set[str]:
    """The migrations that a database has seen."""
    return {row[0] for row in await connection.fetch("select revision from applied_migrations")}
