"""A database URL taken apart once: no driver gets to read `sslmode` for itself, because they disagree on what it means."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit, urlunsplit

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
        parts = parts_of(url)
        return cls(
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            parts.hostname or "",
            parts.port or 5432,
            unquote(parts.path.removeprefix("/")),
            tls,
            str(ca_file or certifi.where()),
        )

    @property
    def place(self) -> tuple[str, int, str]:
        """The same for every role."""
        return self.host, self.port, self.database

    @classmethod
    def direct(cls, url: str) -> "Address":
        """The owner's and the administrator's address, which carries its TLS itself, as `with_tls` writes it.

        Without a word about it the server must prove who it is, unless it is this machine. Raises BadAddressError.
        """
        parts = parts_of(url)
        query = parse_qs(parts.query)
        words: dict[str, Tls] = {"disable": "off", "require": "encrypt"}
        default: Tls = "off" if parts.hostname in LOOPBACK and "sslmode" not in query else "verify"
        ca_file = query.get("sslrootcert", [""])[0]
        return cls.parse(
            url, tls=words.get(query.get("sslmode", [""])[0], default), ca_file=Path(ca_file) if ca_file else None
        )


def parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.username and parts.path.removeprefix("/") and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        named = None
    if not named or parts.scheme not in {"postgres", "postgresql"}:
        raise BadAddressError("a database URL reads postgresql://user:password@host:port/database")
    return parts


def with_tls(url: str, tls: Tls | None, ca_file: Path | None = None) -> str:
    """The same direct address with what DATABASE_TLS says, whatever `sslmode` it had. Raises BadAddressError."""
    parts = parts_of(url)
    chosen: Tls = tls or ("off" if parts.hostname in LOOPBACK else "verify")
    words = {"off": "disable", "encrypt": "require", "verify": "verify-full"}
    query = {"sslmode": words[chosen]} | ({"sslrootcert": str(ca_file)} if ca_file else {})
    return urlunsplit(parts._replace(query=urlencode(query)))


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
