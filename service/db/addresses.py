"""A database URL taken apart once: no driver gets to read `sslmode` for itself, because they disagree on what it means."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import certifi
from psqlpy import SslMode

from service.domain.errors import ServiceError

Tls = Literal["off", "encrypt", "verify"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BadAddressError(ServiceError):
    """A database URL that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Address:
    user: str
    password: str
    host: str
    port: int
    database: str
    tls: Tls
    ca_file: str

    @classmethod
    def parse(cls, url: str, *, tls: Tls, ca_file: Path | None) -> "Address":
        """Raises BadAddressError for anything but postgresql://user[:password]@host[:port]/database."""
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        if parts.scheme not in {"postgres", "postgresql"} or not parts.hostname or not parts.username or not database:
            raise BadAddressError("a database URL reads postgresql://user:password@host:port/database")
        return cls(
            unquote(parts.username),
            unquote(parts.password or ""),
            parts.hostname,
            parts.port or 5432,
            unquote(database),
            tls,
            str(ca_file or certifi.where()),
        )


def psqlpy_tls(address: Address) -> dict[str, Any]:
    """Require with a CA file is the one setting that verifies chain and host and refuses plaintext; VerifyFull falls back."""
    settings: dict[Tls, dict[str, Any]] = {
        "verify": {"ssl_mode": SslMode.Require, "ca_file": address.ca_file},
        "encrypt": {"ssl_mode": SslMode.Require},
        "off": {"ssl_mode": SslMode.Disable},
    }
    return settings[address.tls]


def asyncpg_tls(address: Address) -> ssl.SSLContext | bool:
    if address.tls == "off":
        return False
    context = ssl.create_default_context(cafile=address.ca_file)
    if address.tls == "encrypt":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
