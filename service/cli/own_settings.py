"""The settings with which a command reaches the service's own database and bucket: the environment's, else those of `make run`."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from service.cli.address import DATA_DIR
from service.cli.failures import CommandError
from service.domain.errors import ServiceError
from service.local.folder import StateFolder
from service.settings import Settings


def own_settings(environment: Mapping[str, str]) -> Settings:
    """Raises CommandError that names what is missing."""
    try:
        if "DATABASE_URL" in environment:
            return Settings.model_validate({name.lower(): value for name, value in environment.items()})
        return _of_local_stack(Path(environment.get("DATA_DIR") or DATA_DIR))
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise CommandError(f"The settings cannot be used: {faults}.") from None
    except ServiceError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"The settings of `make run` cannot be read: {error.strerror}.") from None


def _of_local_stack(path: Path) -> Settings:
    """`make run` writes them down for as long as it runs."""
    if not (path / "environment").exists():
        raise CommandError(
            f"DATABASE_URL is not set, and nothing runs in {path}: set what .env.example names, or start it with `make run`."
        )
    lines = StateFolder(path).environment_file.read_text(encoding="utf-8").splitlines()
    written = dict(word.split("=", 1) for line in lines for word in shlex.split(line))
    return Settings.model_validate({name.lower(): value for name, value in written.items()})
