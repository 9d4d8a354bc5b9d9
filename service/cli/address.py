"""Where the service is: named by the environment, else written down by `make run` in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.cli.failures import CommandError

DATA_DIR = ".local"  # The default of `make run`.


@dataclass(frozen=True)
class Address:
    url: str
    api_key: str = field(repr=False)


def find_address(environment: Mapping[str, str]) -> Address:
    """Read SERVICE_URL and SERVICE_API_KEY, each falling back to the file that a local stack keeps in DATA_DIR."""
    folder = Path(environment.get("DATA_DIR") or DATA_DIR)
    url = environment.get("SERVICE_URL") or _written(folder / "url", variable="SERVICE_URL")
    key = environment.get("SERVICE_API_KEY") or _written(folder / "api_key", variable="SERVICE_API_KEY")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise CommandError(f"SERVICE_URL cannot be used: {error}.") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise CommandError(f"SERVICE_URL must look like http://127.0.0.1:8000, and is {url!r}.")
    if not key.isascii() or not key.isprintable():
        raise CommandError("The API key has characters that no key has: check SERVICE_API_KEY.")
    return Address(url=url.rstrip("/"), api_key=key)


def _written(file: Path, *, variable: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CommandError(
            f"{variable} is not set and {file} does not exist: start a service with `make run`."
        ) from None
    except OSError as error:
        raise CommandError(f"{variable} is not set and {file} cannot be read: {error.strerror}.") from None
