"""Alembic, called from the service: what `service migrate` and the tests run."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from service.db.owner import as_owner

ROOT = Path(__file__).resolve().parents[2]


def alembic_config(direct_url: str) -> Config:
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["url"] = direct_url
    return config


async def upgrade(direct_url: str, revision: str = "heads") -> None:
    """Brings the database to a revision; one deployer at a time, one transaction a migration.

    Raises UnavailableError or WrongRoleError.
    """
    async with as_owner(direct_url):
        pass  # What is wrong with the address or the role is said before Alembic can say it in a traceback.
    await asyncio.to_thread(upgrade_patiently, direct_url, revision)


def waited_too_long(error: BaseException) -> bool:
    """Lock timeout: everybody who comes later waits behind a waiting ALTER, so it gives up soon and comes back."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "55P03"


@retry(
    retry=retry_if_exception(waited_too_long),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.5, max=15),
    reraise=True,
)
def upgrade_patiently(direct_url: str, revision: str) -> None:
    command.upgrade(alembic_config(direct_url), revision)
