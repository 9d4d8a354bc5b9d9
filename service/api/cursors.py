"""Opaque cursors: where a page ended, and which list it was a page of."""

import base64
import binascii
import hashlib
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Query

from service.domain.errors import CursorMismatchError, MalformedError

Limit = Annotated[int, Query(ge=1, le=100, description="How many a page has at most.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
DEFAULT_LIMIT = 20


def fingerprint(*parts: object) -> str:
    """Of everything that decides what the list holds: a cursor continues that list and no other."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def make_cursor(position: object, of: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([of, str(position)])).rstrip(b"=").decode()


def read_position(cursor: str | None, of: str) -> str | None:
    """Raises MalformedError, and CursorMismatchError for a cursor of another list."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        list_of, position = orjson.loads(raw)
    except (binascii.Error, ValueError, TypeError) as error:
        raise MalformedError("the cursor is not one of this service") from error
    if not isinstance(list_of, str) or not isinstance(position, str):
        raise MalformedError("the cursor is not one of this service")
    if list_of != of:
        raise CursorMismatchError("the cursor belongs to another list")
    return position


def read_id(cursor: str | None, of: str) -> UUID | None:
    position = read_position(cursor, of)
    try:
        return None if position is None else UUID(position)
    except ValueError as error:
        raise MalformedError("the cursor is not one of this service") from error


def read_ordinal(cursor: str | None, of: str) -> int | None:
    position = read_position(cursor, of)
    if position is not None and not (position.isascii() and position.isdecimal() and len(position) < 10):  # noqa: PLR2004  an int4
        raise MalformedError("the cursor is not one of this service")
    return None if position is None else int(position)
