"""The seam: what every kind of branches can do, on one server of one's own or at a provider."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.branches import PRIMARY, Branch, Copied


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The three doors of one database."""

    database_url: str = field(repr=False)
    search_database_url: str = field(repr=False)
    database_direct_url: str | None = field(default=None, repr=False)


class Branches(Protocol):
    """Names are git's (`preview/pr-12`); an implementation maps them to its own ids. All raise BranchError or UnavailableError.

    Objects are no concern of it: `objects.py` looks after them for all implementations.
    """

    async def create(
        self, name: str, *, parent: str = PRIMARY, expires_at: datetime | None = None, protected: bool = False
    ) -> Copied:
        """The parent's present state under a new name; its clients go on undisturbed."""
        ...

    async def list(self) -> list[Branch]:
        """The primary first. What is not whole says so in its state."""
        ...

    async def uri(self, name: str) -> Addresses:
        """Raises UnknownBranchError, also for what is not whole."""
        ...

    async def reset(self, name: str) -> Copied:
        """Back to the parent's present state, with the same name, expiry and addresses.

        Refuses the primary, the protected, and a branch that has branches.
        """
        ...

    async def delete(self, name: str) -> None:
        """Its sessions are ended. Refuses what `reset` refuses; what is half-made goes as well."""
        ...
