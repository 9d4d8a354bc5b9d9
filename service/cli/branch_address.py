"""Who may make branches here, and the variables with which a service runs on one."""

import re
from collections.abc import Mapping
from pathlib import Path

from service.branches.base import Addresses
from service.branches.postgres import PostgresBranches, Way
from service.cli.address import DATA_DIR
from service.cli.failures import CommandError
from service.db.addresses import LOOPBACK, parts_of, with_tls
from service.domain.branches import object_prefix
from service.domain.errors import ServiceError
from service.local.folder import StateFolder
from service.local.postgres import EmbeddedPostgres
from service.settings import Settings

PLAIN = re.compile(r"[A-Za-z0-9_%+,./:;=@~&?-]*")  # what a shell leaves as it is between two blanks, in practice
NOT_OF_A_BRANCH = {"host", "port", "worker_metrics_port"}  # another service of this machine has them


def find_branches(settings: Settings, environment: Mapping[str, str], *, way: Way) -> PostgresBranches:
    """Raises CommandError when nobody is known who may create databases.

    It is the administrator of `service roles`, not the migrator: no role that the service holds can fill the server.
    """
    secrets = (settings.database_url, settings.search_database_url, settings.database_direct_url)
    url, search, direct = (each.get_secret_value() if each else None for each in secrets)
    folder = Path(environment.get("DATA_DIR") or DATA_DIR)
    admin_url = environment.get("DATABASE_ADMIN_URL")
    try:
        local = admin_of_local_stack(folder, direct)
        if admin_url is None and local is None:
            raise CommandError(
                "DATABASE_ADMIN_URL is not set: name the role that may create databases, the one of `service roles`."
            )
        return PostgresBranches(
            admin_url=with_tls(admin_url, settings.database_tls, settings.database_ca_file)
            if admin_url
            else local or "",
            addresses=Addresses(database_url=url or "", search_database_url=search or "", database_direct_url=direct),
            s3_prefix=settings.s3_prefix,
            folder=folder if local is not None else None,
            way=way,
        )
    except ServiceError as error:
        raise CommandError(f"{error}.") from None


def admin_of_local_stack(folder: Path, direct_url: str | None) -> str | None:
    """The superuser of the Postgres that `make run` runs in this folder, if that is whom `direct_url` reaches."""
    if direct_url is None or not (folder / "environment").exists():
        return None
    parts = parts_of(direct_url)
    state = StateFolder(folder)
    if parts.hostname not in LOOPBACK or parts.port is None or str(parts.port) != state.kept("postgres_port"):
        return None
    return EmbeddedPostgres(state, port=parts.port).url()


def settings_of(settings: Settings, name: str, addresses: Addresses | None = None) -> Settings:
    """The primary's, with what is the branch's own: the prefix of its objects, and the doors where they are known."""
    changed: dict[str, object] = {"s3_prefix": object_prefix(settings.s3_prefix, name)}
    if addresses is not None:
        changed |= {field: value for field, value in vars(addresses).items() if value is not None}
    return Settings.model_validate({field: getattr(settings, field) for field in settings.model_fields_set} | changed)


def words_of(settings: Settings, *, plain: bool) -> dict[str, str]:
    """What was set, as variables. Raises CommandError for a value that `env $(…)` would tear apart."""
    words: dict[str, str] = {}
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if field not in settings.model_fields_set or field in NOT_OF_A_BRANCH or value is None:
            continue
        word = str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
        if plain and not PLAIN.fullmatch(word):
            raise CommandError(f"{field.upper()} has characters that a shell would read: use --format json.")
        words[field.upper()] = word
    return words
