"""The settings with which a figure reaches the service's own database: those of the environment, else of `make run`."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr, ValidationError

from service.cli.address import DATA_DIR
from service.cli.failures import CommandError
from service.db.roles import APPLICATION, SEARCHER
from service.domain.errors import ServiceError
from service.local.folder import StateFolder
from service.local.postgres import EmbeddedPostgres
from service.settings import Settings


def database_settings(environment: Mapping[str, str]) -> Settings:
    """Raises CommandError that names what is missing."""
    try:
        if "DATABASE_URL" in environment:
            return Settings()  # type: ignore[call-arg]  # The environment has them.
        return _of_local_stack(Path(environment.get("DATA_DIR") or DATA_DIR))
    except ValidationError as error:
        missing = ", ".join(str(fault["loc"][0]).upper() for fault in error.errors())
        raise CommandError(f"The statement is timed on the database itself: {missing} must be set.") from None
    except ServiceError as error:
        raise CommandError(str(error)) from None


def _of_local_stack(path: Path) -> Settings:
    if not (path / "url").exists():
        raise CommandError(
            f"The statement is timed on the database itself: DATABASE_URL is not set, and {path} not run."
        )
    folder = StateFolder(path)
    postgres = EmbeddedPostgres(folder, port=int(folder.kept("postgres_port")))

    def url(role: str, name: str) -> SecretStr:
        return SecretStr(postgres.url(role, folder.kept(f"{name}_password")))

    return Settings(
        database_url=url(APPLICATION, "application"),
        search_database_url=url(SEARCHER, "searcher"),
        database_tls="off",  # Loopback.
        s3_endpoint_url="",  # Neither an upload nor a download is timed.
        s3_bucket="",
        s3_access_key_id=SecretStr(""),
        s3_secret_access_key=SecretStr(""),
    )
