"""Postgres 18 with pgvector from the wheel, as a child of this process."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from service.local.account import Account, account_for
from service.local.child import Child, ChildSpec
from service.local.cluster import check_cluster, make_cluster, server_location
from service.local.errors import NO_SPACE, StackError, disk_full
from service.local.folder import StateFolder
from service.local.install import postgres_programs
from service.local.ports import LOOPBACK
from service.local.postgres_settings import server_settings

NAME = "postgres"
START_SECONDS = 300.0  # Crash recovery after much writing is slow, and it is the right thing to wait for.
POLL_SECONDS = 0.01
PORT_ATTEMPTS = 3
READY_LINE = 7  # of postmaster.pid, as pg_ctl reads it
FATAL = re.compile(r"(?:FATAL|PANIC):\s+(.*)")


class EmbeddedPostgres:
    """One server on a loopback port; data, password and port live in the folder and survive a restart."""

    def __init__(
        self,
        folder: Path | StateFolder,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        hurry: asyncio.Event | None = None,
    ) -> None:
        self.folder = folder if isinstance(folder, StateFolder) else StateFolder(folder)
        self.port = port or 0
        self.child: Child | None = None
        self._wanted_port = port
        self._settings = dict(settings or {})
        self._hurry = hurry

    @property
    def data(self) -> Path:
        return self.folder.path / "postgres"

    @property
    def password(self) -> str:
        return self.folder.secret("postgres_password")

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        return self.child.process if self.child else None

    def url(self, user: str = "postgres", password: str | None = None, database: str = "postgres") -> str:
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@{LOOPBACK}:{self.port}/{quote(database, safe='')}"

    async def start(self) -> None:
        """Returns when connections are accepted; raises StackError with the server's own last words otherwise."""
        account = account_for(self.folder.path)
        programs = postgres_programs(account, self.folder.path)
        if not self.data.exists() or not any(self.data.iterdir()):
            durable = self._settings.get("fsync") != "off"
            await make_cluster(self.folder, programs, account=account, password=self.password, durable=durable)
        check_cluster(self.data, account=account)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = self._wanted_port or self.folder.port(NAME)
            self.child = Child(self._spec(programs, account), folder=self.folder, hurry=self._hurry)
            self.child.start()
            try:
                return await self._until_ready(self.child)
            except StackError as error:
                taken = "Address already in use" in self.child.words() and self._wanted_port is None
                if not taken or attempt == PORT_ATTEMPTS:
                    raise error from None
            except BaseException:
                await self.child.stop()
                raise
        return None

    async def stop(self) -> None:
        """The fast shutdown, then the immediate one, then the end."""
        if self.child is not None:
            await self.child.stop()

    def _spec(self, programs: Path, account: Account | None) -> ChildSpec:
        directory, location = server_location(self.data, account)
        settings = [f"--{name}={value}" for name, value in server_settings(self.port, self._settings).items()]
        return ChildSpec(
            name=NAME,
            argv=[str(programs / "postgres"), "-D", location, *settings],
            environment={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            directory=directory,
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
            patience=15.0,
            orphan_signal=signal.SIGINT,
            account=account,
        )

    async def _until_ready(self, child: Child) -> None:
        status_file = self.data / "postmaster.pid"
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while child.process is not None and child.running:
            lines = read_lines(status_file)
            if lines[:1] == [str(child.process.pid)] and lines[READY_LINE : READY_LINE + 1] == ["ready"]:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StackError(f"Postgres was not ready after {START_SECONDS:.0f} seconds (log: {child.log}).")
            await asyncio.sleep(POLL_SECONDS)
        raise self._failure(child)

    def _failure(self, child: Child) -> StackError:
        words = child.words()
        if NO_SPACE in words or shutil.disk_usage(self.folder.path).free == 0:
            return disk_full(self.folder.path)
        reasons = FATAL.findall(words)
        reason = reasons[0] if reasons else f"it ended with status {child.process and child.process.returncode}"
        return StackError(f"Postgres did not start: {reason} (log: {child.log}).")


def read_lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
