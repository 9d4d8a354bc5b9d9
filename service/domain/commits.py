"""Where a write ended in the log of its database, so that a read can ask not to be answered from before it."""

import re
from dataclasses import dataclass
from typing import ClassVar

from service.domain.errors import MalformedError


@dataclass(frozen=True, slots=True)
class CommitToken:
    """`position` is a byte of the write-ahead log of one Postgres system: whoever has replayed it has every commit before it."""

    PATTERN: ClassVar = r"([0-9a-f]{1,16})\.([0-9a-f]{1,15})"  # fifteen digits: a bigint holds them

    system: int
    position: int

    def __str__(self) -> str:
        return f"{self.system:x}.{self.position:x}"

    @classmethod
    def parse(cls, text: str) -> "CommitToken":
        """Raises MalformedError."""
        found = re.fullmatch(cls.PATTERN, text)
        if found is None:
            raise MalformedError("X-Commit-Token: this is no token of this service")
        return cls(int(found[1], 16), int(found[2], 16))
