"""What goes over the pipes between the worker and its extraction children: length-prefixed frames.

A reply is two frames, a JSON header and the text, so that megabytes of text are not escaped.
"""

import json
from typing import Any

from service.domain.errors import ExtractionError
from service.domain.texts import ExtractedText, PageSpan

PREFIX = 4  # Bytes, big-endian.
HEADER_LIMIT = 1024 * 1024  # 2,000 pages take 50 kB.


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(PREFIX, "big") + payload


def text_reply(extracted: ExtractedText) -> bytes:
    header = {
        "content_type": extracted.content_type,
        "title": extracted.title,
        "pages": [(page.number, page.char_start, page.char_end) for page in extracted.pages],
    }
    return frame(json.dumps(header).encode()) + frame(extracted.text.encode())


def error_reply(error: ExtractionError) -> bytes:
    return frame(json.dumps({"code": error.code, "message": str(error)}).encode()) + frame(b"")


def parse_reply(header: bytes, text: bytes) -> ExtractedText:
    """The text that a child found; raises the ExtractionError that it reports."""
    said: dict[str, Any] = json.loads(header)
    if "code" in said:
        raise ExtractionError(said["code"], said["message"])
    pages = tuple(PageSpan(*page) for page in said["pages"])
    return ExtractedText(text.decode(), said["content_type"], pages, said["title"])
