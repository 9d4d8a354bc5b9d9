"""NDJSON files, gzipped or not, as batches of bounded size: a file of any length passes through constant memory."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from service.cli.failures import CommandError

SUFFIXES = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")
BATCH_LINES = 200  # The contract allows 1,000; fewer show progress and repeat less after an interruption.
BATCH_BYTES = 8_000_000  # The contract allows 32 MB; several batches are in memory at once.
LINE_BYTES = 30_000_000  # A longer line cannot be sent: 10 MB of text is less than this, escaped as it may be.
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """`raw` is None when the line is too long to be sent; `end` is an offset in the decompressed bytes."""

    number: int
    end: int
    raw: bytes | None


@dataclass(frozen=True)
class Batch:
    """Documents to send in one request; `numbers` are their lines in the file, `oversized` the lines left out."""

    start: int
    end: int
    last_line: int
    numbers: tuple[int, ...]
    oversized: tuple[int, ...]
    body: bytes


def is_ndjson(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


@contextmanager
def open_lines(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield the decompressed bytes and, for telling how far reading is, the file beneath them."""
    with path.open("rb") as file:
        if not path.name.lower().endswith(".gz"):
            yield file, file
            return
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield cast("BinaryIO", unzipped), file


def read_lines(stream: BinaryIO, *, number: int = 0, offset: int = 0, longest: int = LINE_BYTES) -> Iterator[Line]:
    """Read from `offset`, which follows line `number`; raises CommandError for damaged gzip."""
    try:
        stream.seek(offset)
        while first := stream.readline(longest):
            end, piece = offset + len(first), first
            while len(piece) == longest and not piece.endswith(b"\n"):
                piece = stream.readline(longest)
                end += len(piece)
            number += 1
            yield Line(number=number, end=end, raw=first if piece is first else None)
            offset = end
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CommandError(f"Damaged gzip after line {number}: {error}.") from None


def read_batches(
    lines: Iterable[Line], *, source: str, start: int = 0, most_lines: int = BATCH_LINES, most_bytes: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Group lines so that batches cover the file without a gap: each starts where the one before it ended."""
    bodies: list[bytes] = []
    numbers: list[int] = []
    oversized: list[int] = []
    end = last = size = 0

    def take() -> Batch:
        return Batch(
            start=start,
            end=end,
            last_line=last,
            numbers=tuple(numbers),
            oversized=tuple(oversized),
            body=b"\n".join(bodies) + b"\n",
        )

    for line in lines:
        body = None if line.raw is None else document_of(line.raw, number=line.number, source=source)
        if body and bodies and size + len(body) > most_bytes:
            yield take()
            start, size, bodies, numbers, oversized = end, 0, [], [], []
        if line.raw is None:
            oversized.append(line.number)
        if body:
            bodies.append(body)
            numbers.append(line.number)
            size += len(body) + 1
        end, last = line.end, line.number
        if len(bodies) >= most_lines:
            yield take()
            start, size, bodies, numbers, oversized = end, 0, [], [], []
    if end > start:
        yield take()


def document_of(raw: bytes, *, number: int, source: str) -> bytes:
    """Give a line the words of the contract: BEIR's `_id` and `metadata` are renamed, and a line without a name is
    named after its place, so that repeating the command changes nothing. What is not JSON is left to the service to
    refuse; a blank line becomes empty.
    """
    raw = raw.removeprefix(BOM).strip()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw
    if not isinstance(document, dict) or document.get("external_id") is not None:
        return raw
    if "_id" in document:
        return orjson.dumps(_from_beir(document))
    return orjson.dumps(document | {"external_id": f"{source}#{number}"})


def _from_beir(line: dict[str, Any]) -> dict[str, Any]:
    renamed = {key: value for key, value in line.items() if key not in {"_id", "metadata", "external_id"}}
    renamed |= {"external_id": str(line["_id"]), "text": line.get("text") or ""}
    if line.get("metadata"):
        renamed["attributes"] = line["metadata"]
    return renamed
