"""Identifiers."""

import uuid

import uuid6


def new_id() -> uuid.UUID:
    """Make a UUIDv7 (sorts by time) of the standard class: psqlpy binds no other."""
    return uuid.UUID(int=uuid6.uuid7().int)
