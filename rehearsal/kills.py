"""Part D: the migrator is killed in the middle of each step, at every lock that it waits for, and run again until it ends."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rehearsal.balancer import Balancer
from rehearsal.blocking import Blocker, find_waiting, terminate
from rehearsal.commands import Answer, finish, start
from rehearsal.fill import age
from rehearsal.indexing import plant_index
from rehearsal.instances import start_api, start_worker
from rehearsal.invariants import count_unfilled
from rehearsal.plan import Plan

DATABASE = "kills"
ROWS = 20_000
MOST_KILLS = 8
POLL_SECONDS = 0.01
PATIENCE = 40.0


@dataclass(frozen=True)
class Killed:
    """`moments` are the statements at which it was killed; `wrong` is what is left over after it ran again."""

    step: str
    moments: tuple[str, ...]
    wrong: str | None


async def kill_each(plan: Plan, folder: Path) -> list[Killed]:
    """Expand, backfill and contract of the real change, then a concurrent index of a copy."""
    await plan.ground.make_database(DATABASE, plan.releases[0])
    await age_alone(plan)
    killed = [await kill_ddl(plan, plan.newest.tree, "expand")]
    killed += [await kill_backfill(plan, name) for name in plan.backfills]
    killed.append(await kill_ddl(plan, plan.newest.tree, "contract"))
    killed.append(await kill_index(plan, plant_index(plan.newest, folder / "indexed")))
    await plan.ground.drop_database(DATABASE)
    return killed


async def age_alone(plan: Plan) -> None:
    """Rows of the oldest release, which has gone when the migrator comes."""
    ground, oldest = plan.ground, plan.releases[0]
    instances = [await start_api(ground, DATABASE, oldest), await start_worker(ground, DATABASE, oldest)]
    balancer = Balancer(await ground.make_key(DATABASE))
    balancer.add(instances[0])
    try:
        await age(ground, DATABASE, balancer, ROWS)
    finally:
        await balancer.aclose()
        for instance in instances:
            await instance.stop()


async def kill_ddl(plan: Plan, tree: Path, step: str) -> Killed:
    """Killed at its first wait, then at its second, and so on, until it ends before it can be."""
    moments: list[str] = []
    for number in range(MOST_KILLS):
        async with Blocker(plan.ground, DATABASE) as blocker:
            process = await start_command(plan, tree, step)
            waiting = await blocker.nth_wait(process, number + 1)
            if waiting is not None:
                kill(process)
                moments.append(waiting.statement)
        answer = await finish(process, patience=PATIENCE)
        if waiting is None:
            return Killed(step, tuple(moments), await left_over(plan, step, answer))
    answer = await run_command(plan, tree, step)
    return Killed(step, tuple(moments), await left_over(plan, step, answer))


async def kill_backfill(plan: Plan, name: str) -> Killed:
    """When it has looked at some of the rows; again when at more; then it may end."""
    moments, reached = [], 0
    for _ in range(2):
        process = await start_command(plan, plan.newest.tree, "backfill", name)
        seen = await until_beyond(plan, name, reached, process)
        if seen is None:
            break
        kill(process)
        await finish(process)
        reached = seen
        moments.append(f"after {seen:,} rows")
    answer = await run_command(plan, plan.newest.tree, "backfill", name)
    wrong = await left_over(plan, f"backfill {name}", answer)
    left = await count_unfilled(plan.ground, DATABASE, plan.backfills[name])
    return Killed(f"backfill {name}", tuple(moments), wrong or (f"{left} rows are not filled" if left else None))


async def until_beyond(plan: Plan, name: str, rows: int, process: asyncio.subprocess.Process) -> int | None:
    """How many rows it has looked at, once they are more than `rows`; None when it ends before."""
    async with plan.ground.admin(DATABASE) as connection:
        while process.returncode is None:
            seen = await connection.fetchval(
                "select looked_at from backfills where name = $1 and finished_at is null", name
            )
            if seen is not None and seen > rows:
                return int(seen)
            await asyncio.sleep(POLL_SECONDS)
    return None


async def kill_index(plan: Plan, tree: Path) -> Killed:
    """A build waits for every transaction that is open: killed there, and its server process too, it leaves an invalid index."""
    async with plan.ground.admin(DATABASE) as writer, writer.transaction():
        await writer.execute("lock table documents in row exclusive mode")
        process = await start_command(plan, tree, "expand")
        waiting = await find_waiting(plan.ground, DATABASE, process)
        if waiting is not None:
            kill(process)
            await terminate(plan.ground, waiting)
    await finish(process, patience=PATIENCE)
    async with plan.ground.admin(DATABASE) as connection:
        invalid = await connection.fetchval(INVALID)
    answer = await run_command(plan, tree, "expand")
    moments = (f"{waiting.statement} (left {invalid} invalid)",) if waiting else ()
    return Killed("concurrent index", moments, await left_over(plan, "expand", answer))


INVALID = "select count(*) from pg_index where not indisvalid"
UNPROVEN = "select count(*) from pg_constraint where not convalidated"


async def left_over(plan: Plan, step: str, answer: Answer) -> str | None:
    """None when the last run ended well and nothing half-made is there."""
    if answer.status:
        return f"`migrate {step}` does not end: {answer.last_words}"
    async with plan.ground.admin(DATABASE) as connection:
        for what, statement in (("invalid indexes", INVALID), ("constraints that are not validated", UNPROVEN)):
            if number := await connection.fetchval(statement):
                return f"{number} {what}"
    return None


async def start_command(plan: Plan, tree: Path, *words: str) -> asyncio.subprocess.Process:
    environment = plan.ground.environment(DATABASE, tree)
    return await start(tree, "-m", "service", "migrate", *words, environment=environment)


async def run_command(plan: Plan, tree: Path, *words: str) -> Answer:
    return await finish(await start_command(plan, tree, *words), patience=PATIENCE)


def kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
