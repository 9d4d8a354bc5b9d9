"""Part A: on every schema on the way, each release that is allowed there keeps the contract, and the others refuse to start."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from rehearsal.commands import EndlessError, run
from rehearsal.contract import BrokenPromiseError, check_contract, speaking
from rehearsal.failures import RehearsalError
from rehearsal.instances import running
from rehearsal.invariants import count_differing, due
from rehearsal.plan import Plan
from rehearsal.releases import Release
from rehearsal.schemas import Stage
from rehearsal.together import together
from service.local.ports import free_port

AT_ONCE = 2  # Meetings: each is two to six processes, on two cores.
WALKER = "walker"


@dataclass(frozen=True)
class Meeting:
    """Releases that met on a schema, alone or in turns, and what went wrong; nothing is what should."""

    stage: str
    releases: tuple[str, ...]
    allowed: bool
    wrong: str | None


async def walk(plan: Plan) -> list[Meeting]:
    """Every meeting, in the order of the schemas; raises RehearsalError where a schema cannot be made."""
    await plan.ground.make_database(WALKER, plan.releases[0])
    meetings, before, numbers = [], plan.stages[0], count(1)
    try:
        for stage in plan.stages:
            await step(plan, stage)
            for releases in companies(stage, plan.releases):
                database = f"meeting_{next(numbers)}"
                await plan.ground.copy_database(WALKER, database)
                meetings.append(((before, stage), releases, database))
            before = stage
        return await together((meet(plan, *each) for each in meetings), at_once=AT_ONCE)
    finally:
        await plan.ground.drop_database(WALKER)


def companies(stage: Stage, releases: Sequence[Release]) -> Iterator[tuple[Release, ...]]:
    """Each release alone, then all that are allowed in turns."""
    yield from ((release,) for release in releases)
    together = tuple(release for release in releases if stage.allows(release))
    if len(together) > 1:
        yield together


async def step(plan: Plan, stage: Stage) -> None:
    """Brings the walker's schema there; without documents every gate is open."""
    if stage.revision is None:
        return
    environment = plan.ground.environment(WALKER, plan.newest.tree)
    words = ("-m", "alembic", "upgrade", stage.revision.id)
    answer = await run(plan.newest.tree, *words, environment=environment)
    if answer.status:
        raise RehearsalError(f"the migration {stage.revision.id} fails on an empty database: {answer.last_words}")


async def meet(plan: Plan, stages: tuple[Stage, Stage], releases: tuple[Release, ...], database: str) -> Meeting:
    """`stages`: the one before, and that of the meeting."""
    before, stage = stages
    allowed = all(stage.allows(release) for release in releases)
    try:
        if stage.backfill and allowed:
            await age(plan, stage.backfill, before, database)
        wrong = await (speak(plan, stage, releases, database) if allowed else refuse(plan, releases[0], database))
    finally:
        await plan.ground.drop_database(database)
    return Meeting(stage.name, tuple(str(release) for release in releases), allowed, wrong)


async def age(plan: Plan, backfill: str, before: Stage, database: str) -> None:
    """What the oldest release has written, filled up by the backfill."""
    oldest = next(release for release in plan.releases if before.allows(release))
    if wrong := await speak(plan, before, (oldest,), database, collection="aged"):
        raise RehearsalError(f"release {oldest} before the backfill: {wrong}")
    environment = plan.ground.environment(database, plan.newest.tree)
    answer = await run(plan.newest.tree, "-m", "service", "migrate", "backfill", backfill, environment=environment)
    if answer.status:
        raise RehearsalError(f"the backfill {backfill} fails: {answer.last_words}")


async def speak(
    plan: Plan, stage: Stage, releases: tuple[Release, ...], database: str, collection: str = "contract"
) -> str | None:
    """What a client of these releases, in turns, would complain of."""
    try:
        key = await plan.ground.make_key(database)
        async with (
            running(plan.ground, database, *releases) as apis,
            speaking([api.url for api in apis], key) as voice,
        ):
            await check_contract(voice, collection)
    except (BrokenPromiseError, RehearsalError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a connection that broke, an answer of another shape: the release's fault
        return f"{type(error).__name__}: {error}"
    for backfill in plan.backfills.values():
        if due(backfill, stage) and (rows := await count_differing(plan.ground, database, backfill)):
            return f"{rows} rows of {backfill.table} say one thing in the old column and another in the new"
    return None


async def refuse(plan: Plan, release: Release, database: str) -> str | None:
    """API and worker must end by themselves, with one sentence."""
    environment = plan.ground.environment(database, release.tree) | {"PORT": str(free_port())}
    for word in ("serve", "worker"):
        try:
            answer = await run(release.tree, "-m", "service", word, environment=environment, patience=30)
        except EndlessError:
            return f"`{word}` starts where it must refuse"
        if answer.refusal is None:
            return f"`{word}` ends with status {answer.status}, and no sentence: {answer.last_words}"
    return None
