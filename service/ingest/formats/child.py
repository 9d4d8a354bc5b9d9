"""The process that opens clients' files: `python -m service.ingest.formats.child`, one request after another.

It imports parsers and nothing else of the service, and whatever happens to it harms no one: see `service/ingest/extract.py`.
"""

import json
import os
import sys
from pathlib import Path
from typing import IO

from service.domain.errors import ExtractionError
from service.ingest.formats.frames import PREFIX, error_reply, frame, text_reply
from service.ingest.formats.limits import Limits
from service.ingest.formats.read import read_file
from service.ingest.formats.sandbox import allow_cpu, confine


def main() -> None:
    """Read requests from standard input until it ends; answer on what was standard output."""
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # What a parser prints must not end up between the replies.
    requests = sys.stdin.buffer
    limits = Limits(**json.loads(_next_frame(requests) or b"{}"))
    confine(limits)
    _send(replies, frame(b"ready"))
    while request := _next_frame(requests):
        allow_cpu(limits.cpu_seconds)
        _send(replies, _answer(json.loads(request), limits))


def _answer(request: dict[str, str], limits: Limits) -> bytes:
    try:
        extracted = read_file(
            Path(request["path"]),
            content_type=request["content_type"],
            filename=request["filename"],
            limits=limits,
        )
        return text_reply(extracted)
    except ExtractionError as error:
        return error_reply(error)
    except MemoryError:
        return error_reply(ExtractionError("too_large", "The file takes more memory than a document may."))
    except Exception as error:  # noqa: BLE001 (a parser's surprise at a client's bytes is an answer, not a crash)
        kind = type(error).__name__
        return error_reply(ExtractionError("corrupt", f"The file cannot be read: its parser failed ({kind})."))


def _next_frame(stream: IO[bytes]) -> bytes:
    return stream.read(int.from_bytes(stream.read(PREFIX), "big"))


def _send(stream: IO[bytes], reply: bytes) -> None:
    stream.write(reply)
    stream.flush()


if __name__ == "__main__":
    main()
