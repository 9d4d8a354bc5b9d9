"""Where the tests find Postgres and S3: TEST_STACK=embedded (from wheels), containers (Docker) or env (addresses given)."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import pytest
import yaml

from service.blobs.client import BlobStoreSettings, make_client
from service.db.addresses import LOOPBACK, Tls
from service.local.postgres import EmbeddedPostgres
from service.local.stack import embedded_stack

StackName = Literal["embedded", "containers", "env"]

# A crash of the machine may take the test's database with it.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
COMPOSE = Path(__file__).resolve().parents[1] / "docker-compose.yml"
BUCKET, ACCESS_KEY, SECRET_KEY = "documents", "test-access-key", "test-secret-key"

DATABASE = "TEST_DATABASE_URL"
POOLED = "TEST_DATABASE_POOLED_URL"
STORE = ("TEST_S3_ENDPOINT_URL", "TEST_S3_BUCKET", "TEST_S3_ACCESS_KEY_ID", "TEST_S3_SECRET_ACCESS_KEY")
NO_ENGINE = (
    "TEST_STACK=containers needs a Docker engine, and none answers at {where}: "
    "start one, or run `make test`, which needs none. (It said: {error})"
)


@dataclass(frozen=True)
class Server:
    """A Postgres, by the URL of a role that may create roles and databases."""

    admin_url: str
    tls: Tls = "off"

    def url(self, user: str | None = None, password: str | None = None, database: str | None = None) -> str:
        """The same server for another role, of another database; without them, the administrator's own."""
        parts = urlsplit(self.admin_url)
        login, _, address = parts.netloc.rpartition("@")
        if user is not None:
            login = f"{quote(user, safe='')}:{quote(password or '', safe='')}"
        path = parts.path if database is None else f"/{quote(database, safe='')}"
        return urlunsplit(parts._replace(netloc=f"{login}@{address}", path=path))


@dataclass(frozen=True)
class Stack:
    name: StackName
    postgres: Server
    store: BlobStoreSettings
    pooled_url: str | None = None  # of a pooler that is there already
    embedded: EmbeddedPostgres | None = None  # where a test may stop and start it

    @property
    def database_prefix(self) -> str:
        """New each time: on somebody's server it must meet nobody's names."""
        return f"service_test_{secrets.token_hex(4)}"


def chosen_stack() -> StackName:
    """TEST_STACK; raises UsageError for anything but its three words."""
    word = os.environ.get("TEST_STACK", "embedded")
    if word not in get_args(StackName):
        raise pytest.UsageError(f"TEST_STACK={word} is none of {', '.join(get_args(StackName))}.")
    return word  # type: ignore[return-value]  # one of them, as was just seen


def check_stack(*, parallel: bool) -> None:
    """Raises UsageError, in one sentence, when what TEST_STACK asks for cannot be had."""
    name = chosen_stack()
    if name == "containers":
        ask_engine()
    if name == "env":
        missing = [name for name in (DATABASE, *STORE) if not os.environ.get(name)]
        if missing:
            raise pytest.UsageError(f"TEST_STACK=env needs {', '.join(missing)} (docs/howto/run-the-tests.md).")
        if parallel:
            raise pytest.UsageError("TEST_STACK=env is one server for all, whose roles the tests change: add -n0.")


def ask_engine() -> None:
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - half a second that others need not pay

    try:
        DockerClient().client.ping()
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody answers
        where = os.environ.get("DOCKER_HOST", "its usual socket")
        raise pytest.UsageError(NO_ENGINE.format(where=where, error=str(error).splitlines()[0])) from None


@asynccontextmanager
async def open_stack(name: StackName, folder: Path) -> AsyncIterator[Stack]:
    """Until the block ends; `folder` is for what the embedded one keeps."""
    if name == "embedded":
        async with embedded_stack(folder, settings=UNSAFE) as running:
            store = running.object_store
            yield Stack(
                name,
                Server(running.postgres.url()),
                BlobStoreSettings(
                    endpoint_url=store.endpoint_url,
                    bucket=store.bucket,
                    access_key_id=store.access_key_id,
                    secret_access_key=store.secret_access_key,
                ),
                embedded=running.postgres,
            )
    elif name == "containers":
        async with containers() as stack:
            yield stack
    else:
        yield from_environment()


def from_environment() -> Stack:
    """Nothing is started: two addresses, for instance of a Neon branch and an R2 bucket."""
    url = os.environ[DATABASE]
    endpoint_url, bucket, access_key_id, secret_access_key = (os.environ[name] for name in STORE)
    store = BlobStoreSettings(
        endpoint_url=endpoint_url,
        bucket=bucket,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        region=os.environ.get("TEST_S3_REGION", "auto"),
    )
    return Stack("env", Server(url, tls_of(url)), store, os.environ.get(POOLED))


def tls_of(url: str) -> Tls:
    """As the URL's sslmode says; without one, off on this machine and verified elsewhere."""
    parts = urlsplit(url)
    mode = parse_qs(parts.query).get("sslmode", [""])[0]
    named: Mapping[str, Tls] = {"disable": "off", "require": "encrypt", "verify-ca": "verify", "verify-full": "verify"}
    return named.get(mode, "off" if parts.hostname in LOOPBACK else "verify")


@asynccontextmanager
async def containers() -> AsyncIterator[Stack]:
    """Postgres and MinIO from the images of docker-compose.yml, on ports that Docker picks."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - only with an engine
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import HttpWaitStrategy  # noqa: PLC0415

    unsafe = [word for name, value in UNSAFE.items() for word in ("-c", f"{name}={value}")]
    postgres = (
        PostgresContainer(
            image_of("postgres"), username="postgres", password="of-the-tests", dbname="postgres", driver=None
        )
        .with_env("POSTGRES_INITDB_ARGS", "--locale=C.UTF-8 --encoding=UTF8")
        .with_command(["postgres", "-c", "max_connections=200", *unsafe])
        .with_kwargs(tmpfs={"/var/lib/postgresql": ""}, shm_size="1g")
    )
    minio = (
        DockerContainer(image_of("minio"))
        .with_env("MINIO_ROOT_USER", ACCESS_KEY)
        .with_env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        .with_command("server /data")
        .with_exposed_ports(9000)
        .waiting_for(HttpWaitStrategy(9000, "/minio/health/live"))
    )
    try:
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(minio.start)
        store = BlobStoreSettings(
            endpoint_url=f"http://{minio.get_container_host_ip()}:{minio.get_exposed_port(9000)}",
            bucket=BUCKET,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
        )
        await asyncio.to_thread(make_client(store).create_bucket, Bucket=BUCKET)
        yield Stack("containers", Server(postgres.get_connection_url()), store)
    finally:
        for container in (minio, postgres):
            await asyncio.to_thread(container.stop)


def image_of(service: str) -> str:
    """Of docker-compose.yml, so that both run the same; the default where a variable may name another."""
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    image: str = services[service]["image"]
    if image.startswith("${"):
        name, _, default = image.removeprefix("${").removesuffix("}").partition(":-")
        return os.environ.get(name) or default
    return image
