"""Part C: classic mistakes, each planted as the next migration of a copy; the linter or the contract suite must catch it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from rehearsal.commands import run
from rehearsal.contract import BrokenPromiseError, Voice, check_contract, speaking
from rehearsal.failures import RehearsalError
from rehearsal.ground import Ground
from rehearsal.instances import running
from rehearsal.plan import Plan
from rehearsal.releases import Release
from rehearsal.schemas import read_revisions
from rehearsal.together import together

AT_ONCE = 2
PLANTED = "f00dfeed0001"
TEMPLATE = "unsafe"
MIGRATION = '''"""{what}.

Phase: expand. Planted by the rehearsal.

Revision: {revision}
Revises: {below}
"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{below}"
branch_labels = None
depends_on = {beside!r}


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
'''


@dataclass(frozen=True)
class Plant:
    """A migration of one line; `harmless` for the one that must pass, so that catching everything is no success."""

    what: str
    upgrade: str
    downgrade: str
    harmless: bool = False


PLANTS = (
    Plant(
        "NOT NULL on a column that running code leaves empty",
        'op.alter_column("document_versions", "source", nullable=False)',
        'op.alter_column("document_versions", "source", nullable=True)',
    ),
    Plant(
        "a column renamed",
        'op.alter_column("document_versions", "source", new_column_name="origin")',
        'op.alter_column("document_versions", "origin", new_column_name="source")',
    ),
    Plant(
        "a column's type changed",
        'op.alter_column("document_versions", "size", type_=sa.Numeric())',
        'op.alter_column("document_versions", "size", type_=sa.BigInteger())',
    ),
    Plant(
        "an index that is not built concurrently",
        'op.create_index("ix_documents_title", "documents", ["title"])',
        'op.drop_index("ix_documents_title", "documents")',
    ),
    Plant(
        "a column with a volatile default",
        'op.add_column("documents", sa.Column("token", sa.Uuid(), server_default=sa.text("gen_random_uuid()")))',
        'op.drop_column("documents", "token")',
    ),
    Plant(
        "a constraint before every release writes its column",
        'op.execute("alter table document_versions add column mirror text,'
        ' add constraint mirrored check (mirror is not null) not valid")',
        'op.drop_column("document_versions", "mirror")',
    ),
    Plant(
        "a nullable column (harmless)",
        'op.add_column("documents", sa.Column("note", sa.Text()))',
        'op.drop_column("documents", "note")',
        harmless=True,
    ),
)


@dataclass(frozen=True)
class Caught:
    """What each of the two said of a plant; None is nothing."""

    plant: Plant
    linter: str | None
    rehearsal: str | None

    @property
    def right(self) -> bool:
        return (self.linter is None and self.rehearsal is None) == self.plant.harmless


async def try_plants(plan: Plan, folder: Path) -> list[Caught]:
    await plan.ground.make_database(TEMPLATE, plan.newest)

    async def one(number: int, plant: Plant) -> Caught:
        tree = planted(plan.newest, plant, folder / f"unsafe_{number}")
        linter = await lint(plan.ground, tree)
        return Caught(plant, linter, await rehearse(plan, tree, f"unsafe_{number}"))

    try:
        return await together((one(number, plant) for number, plant in enumerate(PLANTS)), at_once=AT_ONCE)
    finally:
        await plan.ground.drop_database(TEMPLATE)


def planted(release: Release, plant: Plant, tree: Path) -> Path:
    """A copy of a release whose next expand migration is the plant."""
    shutil.copytree(release.tree, tree)
    head, beside = heads(release)
    place = tree / "migrations" / "versions" / "expand"
    text = MIGRATION.format(
        what=plant.what.capitalize(),
        revision=PLANTED,
        below=head,
        beside=beside,
        upgrade=plant.upgrade,
        downgrade=plant.downgrade,
    )
    (place / "20990101_0000_expand_planted.py").write_text(text, encoding="utf-8")
    return tree


def heads(release: Release) -> tuple[str, str | None]:
    """The last expand revision, to go on from, and the last contract one, to come after."""
    revisions = read_revisions(release.tree)
    last: dict[str, str] = {revision.phase: revision.id for revision in revisions.values()}
    return last.get("expand", last["base"]), last.get("contract")


async def lint(ground: Ground, tree: Path) -> str | None:
    """The first thing that `migrate lint` says of the plant. Raises RehearsalError where it cannot run."""
    answer = await run(tree, "-m", "service", "migrate", "lint", environment=ground.environment(TEMPLATE, tree))
    if answer.status not in {0, 1} or "Traceback" in answer.errors or answer.refusal is not None:
        raise RehearsalError(f"`migrate lint` cannot run: {answer.last_words}")
    said = [line.strip() for line in f"{answer.output}\n{answer.errors}".splitlines() if PLANTED in line]
    return said[0] if said else None


async def rehearse(plan: Plan, tree: Path, database: str) -> str | None:
    """What clients of the release that runs would complain of when this migration comes."""
    ground, release = plan.ground, plan.newest
    await ground.copy_database(TEMPLATE, database)
    try:
        key = await ground.make_key(database)
        async with running(ground, database, release) as apis, speaking([api.url for api in apis], key) as voice:
            if wrong := await complaint(voice, "before"):
                raise RehearsalError(f"before anything was planted: {wrong}")
            environment = ground.environment(database, tree)
            answer = await run(tree, "-m", "alembic", "upgrade", PLANTED, environment=environment)
            if answer.status:
                return f"the migration fails: {answer.last_words}"
            return await complaint(voice, "after")
    finally:
        await ground.drop_database(database)


async def complaint(voice: Voice, collection: str) -> str | None:
    try:
        await check_contract(voice, collection)
    except BrokenPromiseError as error:
        return str(error)
    return None
