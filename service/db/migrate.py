"""Alembic, called from the service: what `service migrate` and the tests run."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from service.db.leftovers import drop_unfinished_indexes
from service.db.owner import as_owner
from service.domain.errors import OverloadedError, ServiceError
from service.release import RELEASE

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = ROOT / "migrations"
HISTORY = ("base", "expand", "contract")
ATTEMPTS = 12  # behind locks: about a minute and a half


def alembic_config(direct_url: str) -> Config:
    """Where the migrations are, beside this package: an installed service has no pyproject.toml, whose [tool.alembic] is for
    the command `alembic`.
    """
    config = Config()
    places = [MIGRATIONS / "versions" / name for name in HISTORY]
    config.set_main_option("script_location", literal(MIGRATIONS))
    config.set_main_option("version_locations", "\n".join(literal(place) for place in places))
    config.set_main_option("path_separator", "newline")
    config.attributes["url"] = direct_url
    return config


def literal(path: Path) -> str:
    """As an option's value, in which a percent sign begins a reference."""
    return str(path).replace("%", "%%")


class NoRevisionError(ServiceError):
    """A revision or a branch that no migration has."""


class MigrationFailedError(ServiceError):
    """What Postgres said to a statement of a migration."""


class NewerSchemaError(ServiceError):
    """A newer release has migrated this database, and only that one can go on."""


async def upgrade(direct_url: str, revision: str = "heads") -> None:
    """Brings the database to a revision; one deployer at a time, one transaction a migration.

    Raises UnavailableError, WrongRoleError, NoRevisionError, NewerSchemaError, MigrationFailedError, or GateClosedError with
    every migration before the gate applied.
    """
    config = alembic_config(direct_url)
    try:
        ScriptDirectory.from_config(config).get_revisions(revision)
    except CommandError as error:
        raise NoRevisionError(
            f"no migration is called {revision!r}: `heads` brings everything, and `expand@head` what may run under the old code"
        ) from error
    # What is wrong with the address or the role is said before Alembic can.
    async with as_owner(direct_url) as connection:
        if unknown := await unknown_revisions(connection):
            raise NewerSchemaError(
                f"a newer release than {RELEASE} has migrated this database, and only that one can go on: {', '.join(unknown)}"
                " is no migration of this release. `service migrate status` says which releases may run"
            )
    try:
        await patient(drop_unfinished_indexes)(direct_url)
        await asyncio.to_thread(patient(command.upgrade), alembic_config(direct_url), revision)
    except DBAPIError as error:
        raise as_sentence(error) from error


async def unknown_revisions(connection: AsyncConnection) -> list[str]:
    """Heads of the database of which this release has no migration."""
    if not (await connection.execute(text("select to_regclass('alembic_version') is not null"))).scalar_one():
        return []
    heads = await connection.execute(text("select version_num from alembic_version order by 1"))
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config("")).walk_revisions()}
    return [head for head in heads.scalars() if head not in known]


def waited_too_long(error: BaseException) -> bool:
    """Lock timeout: everybody who comes later waits behind a waiting ALTER, so it gives up soon and comes back."""
    if isinstance(error, OverloadedError):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "55P03"


patient = retry(
    retry=retry_if_exception(waited_too_long),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.5, max=15),
    reraise=True,
)


def as_sentence(error: DBAPIError) -> MigrationFailedError:
    """The transaction of that migration is undone; the migrations before it stay."""
    statement = " ".join((error.statement or "").split())[:200]
    reason = str(error.orig).rpartition(">: ")[2]
    if waited_too_long(error):
        return MigrationFailedError(
            f"a lock was not to be had in {ATTEMPTS} tries, because somebody keeps theirs (pg_stat_activity says who): {statement}"
        )
    return MigrationFailedError(f"a migration failed and is undone: {reason}; the statement is: {statement}")
