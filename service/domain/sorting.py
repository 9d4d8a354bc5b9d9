"""In which order documents are listed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from service.domain.errors import InvalidError
from service.domain.filters import Field, read_field, shown

MOMENTS, TEXTS = ("created_at", "updated_at", "published_at"), ("title", "external_id")
KNOWN = ", ".join((*MOMENTS, *TEXTS, "attributes.<name>"))


@dataclass(frozen=True, slots=True)
class Sort:
    """By a column or an attribute; ties by id in the same direction, and what has no value last in both."""

    field: Field
    descending: bool

    @property
    def kind(self) -> Literal["moment", "text", "json"]:
        if self.field.keys:
            return "moment" if self.field.type == "timestamp" else "json"
        return "moment" if self.field.column in MOMENTS else "text"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last document's value, as Postgres spells it and None without one, and its id."""

    value: str | None
    id: UUID


def parse_sort(text: str | None, *, declared: Mapping[str, str]) -> Sort | None:
    """`title`, or `-title` for descending. Raises InvalidError."""
    if text is None:
        return None
    name = text.removeprefix("-")
    if name in {"created_at", "updated_at"}:
        field = Field(name, (), "timestamp")
    elif name in MOMENTS or name in TEXTS or name.startswith("attributes."):
        field = read_field(name, declared=declared, at="sort")
    else:
        raise InvalidError(f"{shown(name)} is nothing to sort by; there are {KNOWN}", field="sort")
    return Sort(field, descending=text.startswith("-"))
