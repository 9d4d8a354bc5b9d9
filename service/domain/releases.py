"""Releases in their order, as instances announce them and gates compare them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from service.domain.errors import ServiceError

Kind: TypeAlias = Literal["api", "worker"]

ALIVE_SECONDS = 30  # since an instance was last seen: six heartbeats.


@dataclass(frozen=True, slots=True)
class Instance:
    """`silent_for` is in seconds."""

    kind: str
    release: str
    started_at: datetime
    silent_for: float


class ReleaseRefusedError(ServiceError):
    """This release and the schema of the database do not go together."""


class GateClosedError(ServiceError):
    """A migration whose time has not come: a backfill is unfinished, or an older release is still running."""


def order(release: str) -> tuple[int, ...]:
    """`0.10.0` comes after `0.9.1`. Raises ValueError for what is not numbers and dots."""
    return tuple(int(part) for part in release.split("."))
