"""The live part on a branch of the data of `make run`, which an older release goes on serving meanwhile."""

import json
import os
import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rehearsal.commands import run
from rehearsal.deployment import read_applied
from rehearsal.failures import RehearsalError
from rehearsal.ground import INHERITED, Ground, pooled
from rehearsal.plan import Plan
from rehearsal.releases import Release
from rehearsal.schemas import Stage
from service.db.roles import Passwords
from service.local.folder import StateFolder
from service.local.postgres import EmbeddedPostgres

ROLES = ("migrator", "application", "searcher")
WATCHED = ("log_lock_waits = on", "deadlock_timeout = '20ms'")


@asynccontextmanager
async def on_branch(plan: Plan, data_dir: Path) -> AsyncIterator[tuple[Plan, str]]:
    """What is left to rehearse from the branch's schema on, and the branch's database; it is deleted in the end.

    Raises RehearsalError where nothing runs in `data_dir`, and where its schema is the newest already.
    """
    tree, environment = plan.newest.tree, local_environment(data_dir)
    name = f"rehearsal-{secrets.token_hex(3)}"
    await ask(tree, environment, "create", name)
    try:
        variables = json.loads(await ask(tree, environment, "uri", name, "--format", "json"))
        database = unquote(urlsplit(variables["DATABASE_DIRECT_URL"]).path.removeprefix("/"))
        state = StateFolder(data_dir)
        postgres = EmbeddedPostgres(state, port=urlsplit(variables["DATABASE_DIRECT_URL"]).port)
        passwords = Passwords(*(state.secret(f"{role}_password") for role in ROLES))
        kept = {key: value for key, value in variables.items() if key.startswith(("S3_", "EMBEDDING_"))}
        async with pooled(postgres, passwords) as (pooler, pooling):
            said = f"a branch of {data_dir}, {pooling}"
            ground = Ground(postgres, passwords, kept, plan.ground.folder, state.log("postgres"), pooler, said)
            for setting in WATCHED:
                await ground.execute(f'alter database "{database}" set {setting}')
            async with ground.admin(database) as connection:
                applied = await read_applied(connection)
            yield left_of(replace(plan, ground=ground), applied), database
    finally:
        await ask(tree, environment, "delete", name)


def local_environment(data_dir: Path) -> dict[str, str]:
    """What the running service says of itself."""
    place = data_dir / "environment"
    if not place.is_file():
        raise RehearsalError(
            f"nothing runs in {data_dir}: start it with `make run`, by an older release, or name another DATA_DIR"
        )
    lines = (line.partition("=") for line in place.read_text(encoding="utf-8").splitlines())
    said = {name: shlex.split(value)[0] if value else "" for name, _, value in lines}
    store = {name: value for name, value in os.environ.items() if name in INHERITED}
    return {**store, **said, "DATA_DIR": str(data_dir.absolute()), "COLUMNS": "200"}


async def ask(tree: Path, environment: dict[str, str], *words: str) -> str:
    answer = await run(tree, "-m", "service", "branch", *words, environment=environment | {"PYTHONPATH": str(tree)})
    if answer.status:
        raise RehearsalError(f"`service branch {words[0]}` failed: {answer.last_words}")
    return answer.output


def left_of(plan: Plan, applied: set[str]) -> Plan:
    """From the newest release but one that this schema allows. Raises RehearsalError where nothing is left."""
    here = [number for number, stage in enumerate(plan.stages) if stage.applied == applied and stage.backfill is None]
    if not here or here[0] == len(plan.stages) - 1:
        raise RehearsalError(
            "the schema of the branch is not on the way to the newest one"
            if not here
            else "the local data has the newest schema already: there is nothing to rehearse on it"
        )
    stage: Stage = plan.stages[here[0]]
    may_run: list[Release] = [release for release in plan.releases[:-1] if stage.allows(release)]
    if not may_run:
        raise RehearsalError("no older release may run on the local data")
    first = plan.releases.index(may_run[-1])
    return replace(plan, releases=plan.releases[first:], stages=plan.stages[here[0] :])
