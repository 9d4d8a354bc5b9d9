"""The folder that holds one embedded stack: its data, its secrets, its ports, its logs and its lock."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.local.errors import StackError, disk_full, from_os_error
from service.local.ports import free_port

# An empty database and its first log segment need about half of this.
LEAST_FREE_BYTES = 100 * 1024 * 1024
LARGEST_LOG_BYTES = 50 * 1024 * 1024


class StateFolder:
    """Paths below one folder, and the small memory (`stack.json`, mode 600) that survives a restart."""

    def __init__(self, path: Path) -> None:
        """Makes the folder when it is missing; raises StackError when it cannot hold a stack."""
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.subfolder("logs")
        except OSError as error:
            raise from_os_error(error, self.path) from None
        for place in (self.path, self.logs):
            if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
                raise from_os_error(PermissionError(0, "", str(place)), place)
        if shutil.disk_usage(self.path).free < LEAST_FREE_BYTES:
            raise disk_full(self.path)

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def url_file(self) -> Path:
        return self.path / "url"

    @property
    def api_key_file(self) -> Path:
        return self.path / "api_key"

    @property
    def environment_file(self) -> Path:
        """What the service was started with, for a shell that starts its other commands."""
        return self.path / "environment"

    def subfolder(self, *names: str) -> Path:
        """Made when it is missing, each part of it for the folder's owner."""
        place = self.path
        for name in names:
            place = place / name
            if not place.is_dir():
                place.mkdir()
                self.adopt(place)
        return place

    def adopt(self, place: Path | int) -> None:
        """Gives what root has made to the folder's owner, who would otherwise be locked out of the next run."""
        owner = self.path.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(place, owner.st_uid, owner.st_gid)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def open_log(self, name: str) -> int:
        """A descriptor that appends; what has grown too large is kept once, as `.1`."""
        path = self.log(name)
        if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self.adopt(descriptor)
        return descriptor

    def secret(self, name: str) -> str:
        """Random at the first call, the same ever after; safe inside a URL."""
        value = self.kept(name)
        if not value:
            value = secrets.token_urlsafe(24)
            self.keep(name, value)
        return value

    def kept(self, name: str) -> str:
        """What `keep` was given, now or in an earlier run; empty when it never was."""
        return str(self._memory().get(name) or "")

    def keep(self, name: str, value: str) -> None:
        self._remember({**self._memory(), name: value})

    def port(self, name: str) -> int:
        """The port of last time while it is free, else another, which is the port of next time."""
        memory, key = self._memory(), f"{name}_port"
        last = memory.get(key)
        port = free_port(last if isinstance(last, int) else None)
        if port != last:
            memory[key] = port
            self._remember(memory)
        return port

    def write(self, path: Path, text: str, *, durable: bool = True) -> None:
        """A private file, replaced as a whole: no reader sees half of it."""
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.adopt(descriptor)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held as long as this process lives, by the kernel: nothing to clean up after a `kill -9`."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self.adopt(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._in_use(os.pread(descriptor, 32, 0).decode().strip()) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _in_use(self, pid: str) -> StackError:
        try:
            state = f"already runs at {self.url_file.read_text(encoding='utf-8').strip()}"
        except OSError:
            state = "is already starting or stopping"
        return StackError(
            f"The service of {self.path} {state} (process {pid or 'unknown'}): "
            "use that one, stop it with Ctrl-C, or start another with DATA_DIR and PORT."
        )

    def _memory(self) -> dict[str, object]:
        path = self.path / "stack.json"
        try:
            memory = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            memory = None
        if not isinstance(memory, dict):
            raise StackError(
                f"{path} is damaged, and with it the passwords of the data beside it: "
                f"restore it, or move {self.path} away to start empty."
            )
        return memory

    def _remember(self, memory: dict[str, object]) -> None:
        self.write(self.path / "stack.json", json.dumps(memory, indent=2, sort_keys=True) + "\n")
