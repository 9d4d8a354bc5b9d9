"""How far into an NDJSON file an interrupted run came, so that the next one begins there."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from service.cli.failures import Failure
from service.cli.lines import Batch

MOST_FAILURES = 1_000  # Kept in the file, to be shown when the file is finished.


class Checkpoint:
    """Batches finish in any order; the checkpoint stands at the end of those that are finished without a gap."""

    def __init__(self, path: Path, *, offset: int = 0, line: int = 0, failures: tuple[Failure, ...] = ()) -> None:
        self.path = path
        self.offset = offset
        self.line = line
        self.failures = list(failures)
        self._ahead: dict[int, tuple[Batch, list[Failure]]] = {}

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read it; one that is absent or damaged is a start from the beginning, which costs time and nothing else."""
        try:
            kept: dict[str, Any] = orjson.loads(path.read_bytes())
            failures = tuple(Failure(**failure) for failure in kept["failures"])
            return cls(path, offset=int(kept["offset"]), line=int(kept["line"]), failures=failures)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)

    def finish(self, batch: Batch, failures: list[Failure]) -> None:
        """Note that every line of the batch was answered, and keep the answer on disk."""
        self._ahead[batch.start] = (batch, failures)
        while self.offset in self._ahead:
            first, failed = self._ahead.pop(self.offset)
            self.offset, self.line = first.end, first.last_line
            self.failures.extend(failed[: MOST_FAILURES - len(self.failures)])
        self._save()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _save(self) -> None:
        """Keep it where it can be kept: without, the next run starts from the beginning, which costs only time."""
        failures = [{"name": one.name, "code": one.code, "message": one.message} for one in self.failures]
        fresh = self.path.with_suffix(".new")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(orjson.dumps({"offset": self.offset, "line": self.line, "failures": failures}))
            fresh.replace(self.path)


def checkpoint_path(folder: Path, file: Path, *, url: str, collection: str, created_at: str) -> Path:
    """Name a checkpoint after all that makes it valid: the very file, and the very collection of one service.

    `created_at` is the collection's: one that was deleted and made again has none of the lines.
    """
    stat = file.stat()
    identity = (str(file.resolve()), stat.st_size, stat.st_mtime_ns, url, collection, created_at)
    return folder / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}.json"
