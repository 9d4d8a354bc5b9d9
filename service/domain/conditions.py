"""What a client demands of the document that it is about to change (RFC 9110, If-Match and If-None-Match)."""

from dataclasses import dataclass
from typing import Literal

from service.domain.errors import DocumentExistsError, PreconditionFailedError

Tags = frozenset[int] | Literal["*"]


@dataclass(frozen=True, slots=True)
class Condition:
    """None demands nothing; an empty set of versions is met by no document."""

    if_match: Tags | None = None
    if_none_match: Tags | None = None
    absent: bool = False  # POST: whoever names a document that exists meant another one.

    def check(self, version: int | None) -> None:
        """Raises unless the document, at `version` or (None) not there, is what the client believes it to be."""
        if self.absent and version is not None:
            raise DocumentExistsError("a document with this external_id exists; PUT adds a version to it")
        if self.if_match is not None and not holds(self.if_match, version):
            raise PreconditionFailedError(
                f"the document is at version {version}" if version else "no such document yet"
            )
        if self.if_none_match is not None and holds(self.if_none_match, version):
            raise PreconditionFailedError(f"the document exists, at version {version}")


def holds(tags: Tags, version: int | None) -> bool:
    return version is not None and (tags == "*" or version in tags)


UNCONDITIONAL = Condition()
