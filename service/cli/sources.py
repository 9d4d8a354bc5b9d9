"""What a path on the command line stands for: files to upload under a name, and NDJSON files to read line by line."""

import mimetypes
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.cli.failures import Failure
from service.cli.lines import is_ndjson

PIECE = 1 << 20  # Bytes read at once; a file is never whole in memory.
SKIPPED_FOLDERS = {"CVS", "_darcs", "__pycache__", "node_modules"}  # Those of git, svn and hg are hidden ones.
BESIDE_A_CORPUS = {"queries.jsonl", "queries.jsonl.gz", "qrels"}  # Their `_id`s would overwrite its documents.
SEPARATE_WORDS = {"application/json", "application/x-ndjson"}  # As types of a body they mean a document, not a file.


@dataclass(frozen=True)
class Source:
    """One file: its `external_id` is its path in the folder that was given."""

    path: Path
    external_id: str
    size: int

    @property
    def is_ndjson(self) -> bool:
        return is_ndjson(self.path)

    @property
    def content_type(self) -> str:
        guess = mimetypes.guess_type(self.path.name)[0] or ""
        return "application/octet-stream" if not guess or guess in SEPARATE_WORDS or "multipart" in guess else guess


class FileBody:
    """The bytes of a file, as often as they are asked for: a retried upload reads it again from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def find_sources(paths: Iterable[Path]) -> Iterator[Source | Failure]:
    """Walk folders in a stable order, past hidden files and what version control keeps; a name is given once."""
    given: set[str] = set()
    for path in paths:
        found = _walk(path, root=path) if path.is_dir() else iter([_source(path, root=path.parent)])
        for source in found:
            if isinstance(source, Source) and source.external_id in given:
                yield Failure(str(source.path), "duplicate_name", f"Another file is {source.external_id!r} already.")
                continue
            given.add(source.external_id if isinstance(source, Source) else "")
            yield source


def _walk(folder: Path, *, root: Path) -> Iterator[Source | Failure]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Failure(str(folder), "unreadable", f"{error.strerror}.")
        return
    judged = {"corpus.jsonl", "corpus.jsonl.gz"} & {entry.name for entry in entries}
    for entry in entries:
        if entry.name.startswith(".") or (judged and entry.name in BESIDE_A_CORPUS):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in SKIPPED_FOLDERS:
                yield from _walk(Path(entry.path), root=root)
        elif entry.is_file() or entry.is_symlink():
            yield _source(Path(entry.path), root=root)


def _source(path: Path, *, root: Path) -> Source | Failure:
    name = os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", errors="replace")
    try:
        return Source(path=path, external_id=name, size=path.stat().st_size)
    except OSError as error:
        return Failure(name, "unreadable", f"{error.strerror}.")
