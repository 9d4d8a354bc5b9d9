"""TLS of the owner's and the administrator's addresses: what DATABASE_TLS says, and proof by default."""

import asyncio
import ssl
from urllib.parse import urlsplit

import pytest

from service.db.addresses import Address, BadAddressError, Tls, asyncpg_tls, with_tls
from service.db.owner import as_owner
from service.db.primary import WRONG_TLS
from service.db.roles import create_roles
from service.domain.errors import UnavailableError
from service.settings import Settings
from tests.conftest import PASSWORDS
from tests.test_cli_doors import doors, sentences
from tests.worker_calls import environment_of

REMOTE, LOCAL = "postgresql://owner:word@db.example:5432/service", "postgresql://owner:word@127.0.0.1:5432/service"


@pytest.mark.parametrize(
    ("url", "tls", "expected"),
    [
        (REMOTE, None, "verify"),
        (f"{REMOTE}?sslmode=require&channel_binding=require", None, "verify"),
        (f"{REMOTE}?sslmode=disable", "verify", "verify"),
        (REMOTE, "encrypt", "encrypt"),
        (f"{REMOTE}?sslmode=verify-full", "off", "off"),
        (LOCAL, None, "off"),
        (LOCAL, "verify", "verify"),
    ],
)
def test_database_tls_decides_whatever_the_address_carries(url: str, tls: Tls | None, expected: Tls) -> None:
    address = Address.direct(with_tls(url, tls))

    assert address.tls == expected
    assert (address.user, address.password, address.port, address.database) == ("owner", "word", 5432, "service")


def test_an_address_that_nobody_spoke_of_is_verified_with_its_host_name() -> None:
    context = asyncpg_tls(Address.direct(REMOTE))

    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("url", ["no address", "postgresql://a@host:port/x", "postgresql://a@[::1/x", "mysql://a@h/x"])
def test_what_is_no_address_is_a_sentence(url: str) -> None:
    with pytest.raises(BadAddressError, match="a database URL reads"):
        with_tls(url, None)
    with pytest.raises(BadAddressError, match="a database URL reads"):
        Address.direct(url)


async def test_a_server_without_tls_is_refused_where_proof_is_asked_for(settings: Settings) -> None:
    """The embedded Postgres speaks none."""
    assert settings.database_direct_url is not None
    for tls in ("verify", "encrypt"):
        url = with_tls(settings.database_direct_url.get_secret_value(), tls)
        with pytest.raises(UnavailableError, match="refuses TLS"):
            async with as_owner(url):
                pass
        with pytest.raises(UnavailableError, match="refuses TLS"):
            await create_roles(url, PASSWORDS)


async def test_the_commands_pass_it_on(settings: Settings) -> None:
    environment = {**environment_of(settings), "DATABASE_TLS": "verify"}
    environment |= {"DATABASE_ADMIN_URL": environment["DATABASE_DIRECT_URL"], "MIGRATOR_PASSWORD": "m"}
    environment |= {"APPLICATION_PASSWORD": "a", "SEARCHER_PASSWORD": "s"}
    answers = await doors(*((command, environment) for command in ("migrate", "roles", "keys somebody", "serve")))

    assert [sentences(answer) for answer in answers] == [[WRONG_TLS]] * len(answers)


async def test_a_certificate_that_proves_nothing_is_refused(settings: Settings) -> None:
    """Bytes that are no TLS where a handshake is due are as good as a wrong certificate: the door stays shut."""

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"S" + b"no certificate at all")
        await writer.drain()
        writer.close()

    assert settings.database_direct_url is not None
    parts = urlsplit(settings.database_direct_url.get_secret_value())
    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
        with pytest.raises(UnavailableError, match="does not prove who it is"):
            async with as_owner(with_tls(url, "verify")):
                pass
