"""A real PgBouncer in transaction mode before a database, as Neon's pooler is, or as older ones are: untracked."""

import asyncio
import os
import runpy
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit, urlunsplit

from service.local.account import Account, account_for
from service.local.child import Child, ChildSpec
from service.local.folder import StateFolder
from service.local.ports import LOOPBACK, free_port

Pooling = Literal["none", "tracked", "untracked"]

INSTALL = Path(__file__).resolve().parents[1] / "infra" / "pgbouncer" / "install.py"
START_SECONDS = 60.0
# Few and in turn, so that a client meets another server connection with nearly every transaction.
CONFIG = """\
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = {mode}
max_prepared_statements = {statements}
admin_users = {admin}
default_pool_size = {connections}
min_pool_size = {connections}
server_round_robin = 1
max_client_conn = 500
query_wait_timeout = 20
server_login_retry = 0.1
ignore_startup_parameters = extra_float_digits,options
log_connections = 0
log_disconnections = 0
"""


class PoolerError(Exception):
    """No PgBouncer, or one that does not start; the message is all that the user reads."""


@dataclass(frozen=True)
class Pooler:
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Pooler":
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 5432)

    def through(self, url: str) -> str:
        """The same role, password and database, by the pooler."""
        parts = urlsplit(url)
        login, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}@{self.host}:{self.port}"))


def describe(pooling: Pooling) -> str:
    """Raises PoolerError where it cannot be had."""
    if pooling == "none":
        return "no pooler"
    where = (os.environ.get("TEST_DATABASE_POOLED_URL") and "a pooler that is there") or find_program().name
    return f"TEST_POOLER={pooling} ({where}, transaction mode): the tests with a service on the database"


def chosen_pooling() -> Pooling:
    """TEST_POOLER; raises PoolerError for anything but its three words."""
    word = os.environ.get("TEST_POOLER", "none")
    for pooling in get_args(Pooling):
        if word == pooling:
            return pooling  # type: ignore[no-any-return]  # get_args forgets
    raise PoolerError(f"TEST_POOLER={word} is none of {', '.join(get_args(Pooling))}.")


def find_program() -> Path:
    program: Path | None = runpy.run_path(str(INSTALL))["find"]()
    if program is None:
        raise PoolerError("PgBouncer 1.21 or newer is not installed; add it with: make pgbouncer")
    return program


@contextmanager
def own_folder() -> Iterator[StateFolder]:
    """Below /tmp, because pytest's folders are closed to the account that root lends."""
    path = Path(tempfile.mkdtemp(prefix="pooler-"))
    account = account_for(path)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    try:
        yield StateFolder(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def runnable(program: Path, folder: StateFolder, account: Account | None) -> Path:
    """PgBouncer refuses root, and the account that root lends may not enter where the program lies: a copy it can run."""
    if account is None or account.may_run(program):
        return program
    copy = folder.path / program.name
    shutil.copy(program, copy)
    folder.adopt(copy)
    return copy


@asynccontextmanager
async def running_pooler(
    upstream: str,
    *,
    users: Mapping[str, str],
    tracked: bool,
    connections: int = 4,
    mode: str = "transaction",
    admin: str = "",
) -> AsyncIterator[Pooler]:
    """Before the server of the URL `upstream`, any database of it, for `users` (role to password).

    `connections` to the server for each role and database; `admin`, one of the users, may speak to its console. Raises PoolerError.
    """
    program, server = find_program(), urlsplit(upstream)
    with own_folder() as folder:
        account, port = account_for(folder.path), free_port()
        userlist, config = folder.path / "userlist.txt", folder.path / "pgbouncer.ini"
        folder.write(userlist, "".join(f"{quoted(user)} {quoted(word)}\n" for user, word in users.items()))
        values = {
            "host": server.hostname,
            "port": server.port or 5432,
            "listen_port": port,
            "users": userlist,
            "statements": 200 if tracked else 0,
            "connections": connections,
            "mode": mode,
            "admin": admin,
        }
        folder.write(config, CONFIG.format(**values))
        spec = ChildSpec(
            name="pgbouncer",
            argv=[str(runnable(program, folder, account)), str(config)],
            environment={"PATH": os.defpath},
            stop_signals=(signal.SIGTERM,),  # At once; SIGINT would wait for its clients.
            account=account,
        )
        child = Child(spec, folder=folder)
        child.start()
        try:
            await until_ready(child, port)
            yield Pooler(LOOPBACK, port)
        finally:
            await child.stop()


async def until_ready(child: Child, port: int) -> None:
    end = asyncio.get_running_loop().time() + START_SECONDS
    while child.running and asyncio.get_running_loop().time() < end:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise PoolerError(f"PgBouncer did not start: {child.words().strip() or 'no word'}")
