"""Alembic, called from the service: what `service migrate` and the tests run."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from service.db.leftovers import drop_indexes, unfinished_indexes
from service.db.owner import as_owner
from service.domain.errors import ServiceError

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


async def upgrade(direct_url: str, revision: str = "heads") -> None:
    """Brings the database to a revision; one deployer at a time, one transaction a migration.

    Raises UnavailableError, WrongRoleError, NoRevisionError, or GateClosedError with every migration before the gate applied.
    """
    config = alembic_config(direct_url)
    try:
        ScriptDirectory.from_config(config).get_revisions(revision)
    except CommandError as error:
        raise NoRevisionError(
            f"no migration is called {revision!r}: `heads` brings everything, and `expand@head` what may run under the old code"
        ) from error
    async with as_owner(
        direct_url
    ) as connection:  # What is wrong with the address or the role is said before Alembic can.
        leftovers = await unfinished_indexes(connection)
    await drop_indexes(direct_url, leftovers)
    await asyncio.to_thread(upgrade_patiently, direct_url, revision)


def waited_too_long(error: BaseException) -> bool:
    """Lock timeout: everybody who comes later waits behind a waiting ALTER, so it gives up soon and comes back."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "55P03"


@retry(
    retry=retry_if_exception(waited_too_long),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.5, max=15),
    reraise=True,
)
def upgrade_patiently(direct_url: str, revision: str) -> None:
    command.upgrade(alembic_config(direct_url), revision)
