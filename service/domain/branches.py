"""Words about branches: a copy of a database to try things on, under a name and with a prefix of its own for objects."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.domain.errors import ServiceError

PRIMARY = "main"  # what everybody's branches come from; itself never reset and never deleted
LONGEST_NAME = 256  # Neon's
# A segment begins with a letter or a digit, so none of them is the OWN that ends a prefix.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
BRANCHES, OWN = "branches/", "_/"

State = Literal["ready", "being made", "half-made"]


class BranchError(ServiceError):
    """What was asked for cannot be done with this branch."""


class BusyError(BranchError):
    """Somebody is connected to what a template copy needs for itself."""


class UnknownBranchError(BranchError):
    """No branch has this name."""


class WrongPrefixError(ServiceError):
    """A database and an S3_PREFIX that belong to different branches."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a branch's database says of itself, in its comment: it survives whatever happens inside."""

    branch: str
    parent: str
    s3_prefix: str
    created_at: datetime
    expires_at: datetime | None = None
    protected: bool = False
    way: str = ""

    def written(self) -> str:
        times = {
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at and self.expires_at.isoformat(),
        }
        return json.dumps(vars(self) | times)

    @classmethod
    def read(cls, comment: str | None) -> "Note | None":
        """None for a comment that is somebody's own words."""
        try:
            said = json.loads(comment or "")
            expires_at = said["expires_at"] and datetime.fromisoformat(said["expires_at"])
            return cls(**said | {"created_at": datetime.fromisoformat(said["created_at"]), "expires_at": expires_at})
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One line of the list; `size` in bytes, unknown where the server does not say."""

    name: str
    parent: str | None
    state: State = "ready"
    created_at: datetime | None = None
    expires_at: datetime | None = None
    protected: bool = False
    size: int | None = None
    way: str = ""

    @property
    def primary(self) -> bool:
        return self.parent is None and self.name == PRIMARY


@dataclass(frozen=True, kw_only=True)
class Copied:
    """How a branch came to be. `why` is the reason for a way that is not the fastest; `taken` the disk space that went."""

    branch: Branch
    seconds: float
    why: str = ""
    taken: int | None = None


def check_name(name: str) -> str:
    """Raises BranchError for a name that no branch can have."""
    if name == PRIMARY:
        raise BranchError(f"{PRIMARY} is the primary: it is what branches are made of")
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise BranchError(
            f"{name[:80]!r} is no name for a branch: letters, digits, dots, dashes and underscores, in parts that"
            f" begin with a letter or digit and are joined by slashes, at most {LONGEST_NAME} characters"
        )
    return name


def object_prefix(primary_prefix: str, name: str) -> str:
    """Before every key that the branch writes. No branch's is the beginning of another's: not `preview`'s of `preview/pr-12`'s."""
    return primary_prefix if name == PRIMARY else f"{primary_prefix}{BRANCHES}{name}/{OWN}"


def owns(prefix: str, key: str) -> bool:
    """Whether an object is that database's: under its prefix, and not under that of a branch of it."""
    return key.startswith(prefix) and not key.startswith(prefix + BRANCHES)


def is_branch_prefix(prefix: str) -> bool:
    return prefix.endswith(f"/{OWN}") and BRANCHES in prefix
