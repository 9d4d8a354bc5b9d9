"""What every command begins and ends with: its settings, and one sentence for whatever stops it. Imports little: others wait."""

from collections.abc import Callable
from typing import TypeVar

import typer
from pydantic import ValidationError

from service.db.addresses import with_tls
from service.domain.errors import ServiceError
from service.settings import Settings

T = TypeVar("T")


def load_settings() -> Settings:
    """Every missing or wrong variable in one sentence each."""
    try:
        return Settings()  # type: ignore[call-arg]  # pydantic-settings reads the environment
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"Error: {name}: {problem['msg'][:1].lower()}{problem['msg'][1:]}", err=True)
        raise typer.Exit(1) from None


def or_exit(action: Callable[[], T]) -> T:
    """What the service raises on purpose is one sentence on standard error, never a traceback."""
    try:
        return action()
    except* ServiceError as group:
        for error in filter(str, leaves(group)):
            typer.echo(f"Error: {error}", err=True)
    raise typer.Exit(1)


def leaves(group: BaseExceptionGroup[ServiceError]) -> list[BaseException]:
    return [leaf for e in group.exceptions for leaf in (leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]


def direct_of(settings: Settings) -> str | None:
    """DATABASE_DIRECT_URL under the same TLS as the other two."""
    url = settings.database_direct_url
    if url is None:
        return None
    return or_exit(lambda: with_tls(url.get_secret_value(), settings.database_tls, settings.database_ca_file))
