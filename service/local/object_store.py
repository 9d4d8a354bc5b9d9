"""An S3 server from the wheel, on a folder: enough of S3 for the service, not of R2 (no conditional puts)."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from service.local.account import owner_of
from service.local.child import Child, ChildSpec
from service.local.errors import StackError, from_os_error
from service.local.folder import StateFolder
from service.local.install import rclone_program
from service.local.ports import LOOPBACK

NAME = "object-store"
BUCKET = "documents"
START_SECONDS = 30.0
POLL_SECONDS = 0.02


class EmbeddedObjectStore:
    """rclone on a loopback port; objects, keys and port live in the folder and survive a restart."""

    def __init__(
        self, folder: Path | StateFolder, *, port: int | None = None, hurry: asyncio.Event | None = None
    ) -> None:
        self.folder = folder if isinstance(folder, StateFolder) else StateFolder(folder)
        self.port = port or 0
        self.bucket = BUCKET
        self.child: Child | None = None
        self._wanted_port = port
        self._hurry = hurry

    @property
    def endpoint_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def access_key_id(self) -> str:
        return self.folder.secret("s3_access_key_id")

    @property
    def secret_access_key(self) -> str:
        return self.folder.secret("s3_secret_access_key")

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        return self.child.process if self.child else None

    async def start(self) -> None:
        """Returns when the port answers and the bucket exists."""
        objects = self.folder.path / "objects"
        try:
            self.folder.subfolder("objects", self.bucket)
        except OSError as error:
            raise from_os_error(error, objects) from None
        self.port = self._wanted_port or self.folder.port(NAME)
        self.child = Child(self._spec(objects), folder=self.folder, hurry=self._hurry)
        self.child.start()
        try:
            await self._until_ready(self.child)
        except BaseException:
            await self.child.stop()
            raise

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()

    def _spec(self, objects: Path) -> ChildSpec:
        program, owner = rclone_program(), owner_of(self.folder.path)
        return ChildSpec(
            name=NAME,
            argv=[
                str(program),
                "serve",
                "s3",
                "--addr",
                f"{LOOPBACK}:{self.port}",
                "--config",
                "",
                str(objects),
            ],
            # Keys in the environment: the command line is everybody's to read.
            environment={"PATH": os.defpath, "RCLONE_AUTH_KEY": f'"{self.access_key_id},{self.secret_access_key}"'},
            stop_signals=(signal.SIGTERM,),
            patience=5.0,
            account=owner if owner and owner.may_run(program.resolve()) and owner.may_run(program) else None,
        )

    async def _until_ready(self, child: Child) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while child.running and asyncio.get_running_loop().time() < deadline:
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self.port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
                continue
            writer.close()
            await writer.wait_closed()
            return
        last = (child.words().strip().splitlines() or ["it gave no reason"])[-1]
        raise StackError(f"The object store did not start: {last} (log: {child.log}).")
