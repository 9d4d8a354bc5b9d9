"""What clients send, field by field; anything else in a body is refused by name."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from service.api.languages import LANGUAGES
from service.domain.attributes import MAX_NAME, check_storable
from service.domain.documents import Fields
from service.domain.errors import InvalidError
from service.domain.filter_values import read_time
from service.domain.names import COLLECTION_NAME, CONTROLS, EXTERNAL_ID_LENGTH

MAX_TAGS, MAX_TAG = 1_000, 512  # A tag is an index entry, which Postgres keeps under 2,704 bytes.
MAX_LINE = 10_000  # Characters of a title (it is indexed with every chunk) or a source.
LARGEST_HALF = 65_504.0  # A vector is kept in half precision.

# As asyncpg sends them to Postgres; Go's zero time is the first.
INFINITIES = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

T = TypeVar("T")


def valid(check: Callable[[Any], T]) -> Callable[[Any], T]:
    """The domain's InvalidError, as pydantic wants to hear it."""

    def checked(value: Any) -> T:  # noqa: ANN401  before validation it may be anything
        try:
            return check(value)
        except InvalidError as error:
            raise ValueError(str(error)) from error

    return checked


def storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair cannot be stored") from error
    if "\0" in text:
        raise ValueError("a NUL cannot be stored")
    return text


def without_controls(text: str) -> str:
    if CONTROLS.search(text):
        raise ValueError("control characters are not allowed")
    return text


def check_vector(vector: list[float]) -> list[float]:
    if not (isfinite(sum(vector)) and max(map(abs, vector), default=0) <= LARGEST_HALF):
        raise ValueError(f"every number must be finite and at most {LARGEST_HALF:g}")
    if not any(vector):
        raise ValueError("a vector of zeros has no direction")
    return vector


def check_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    check_storable(attributes)  # Raises InvalidError itself: it names the very member.
    return attributes


def read_moment(value: object) -> datetime | None:
    moment = None if value is None else valid(lambda raw: read_time(raw, at=""))(value)
    if moment in INFINITIES:
        raise ValueError("the first and the last moment of the calendar mean none: leave it out")
    return moment


# What a validator checks, and what a JSON schema can say of it.
WITHOUT_NUL = Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})
WITHOUT_CONTROLS = Field(json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"})
NAME_PART = r"[^.\u0000-\u001f\u007f-\u009f]+"
NOT_ALL_ZERO = Field(json_schema_extra={"contains": {"not": {"const": 0}}})

AttributeType = Literal["integer", "number", "string", "boolean", "timestamp", "string[]"]

Line = Annotated[str, StringConstraints(max_length=MAX_LINE), AfterValidator(storable), WITHOUT_NUL]
Tag = Annotated[str, StringConstraints(max_length=MAX_TAG), AfterValidator(storable), WITHOUT_NUL]
Language = Annotated[Line, WithJsonSchema({"type": "string", "enum": [*LANGUAGES]})]
MOMENT = {"type": "string", "format": "date-time", "pattern": r"([Zz]|[+-](0[0-9]|1[0-5]):[0-5][0-9])$"}
Moment = Annotated[datetime, BeforeValidator(read_moment), WithJsonSchema(MOMENT)]
Attributes = Annotated[dict[str, Any], AfterValidator(check_attributes), WithJsonSchema({"x-component": "Attributes"})]
Declarations = Annotated[
    dict[Line, Any],
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": rf"^{NAME_PART}(\.{NAME_PART}){{0,9}}$", "maxLength": MAX_NAME},
            "additionalProperties": {"enum": [*get_args(AttributeType), None]},
        }
    ),
]
Name = Annotated[str, AfterValidator(storable), AfterValidator(without_controls), WITHOUT_CONTROLS]
ExternalId = Annotated[Name, StringConstraints(min_length=1, max_length=EXTERNAL_ID_LENGTH)]
FileName = Annotated[Name, StringConstraints(min_length=1, max_length=1_024)]
Coordinate = Annotated[float, Field(strict=True, json_schema_extra={"minimum": -LARGEST_HALF, "maximum": LARGEST_HALF})]


def said(field: str) -> dict[str, Any]:
    """The JSON schema of an object in which this field is a string that is not empty."""
    return {"properties": {field: {"type": "string", "minLength": 1}}}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewCollection(Strict):
    name: str = Field(pattern=f"^{COLLECTION_NAME.pattern}$")  # pydantic's `$` is the very end, as in JavaScript
    language: Language | None = Field(default=None, description="A Postgres text-search configuration; `english`.")


class CollectionPatch(Strict):
    attributes: Declarations | None = Field(
        default=None, description="Name (a dotted path) to type; a null withdraws the declaration."
    )


class DocumentFields(Strict):
    """What may be said of any document; null and absent are the same."""

    title: Line | None = None
    source: Line | None = None
    tags: Annotated[list[Tag], Field(max_length=MAX_TAGS)] | None = None
    published_at: Moment | None = None
    language: Language | None = None
    attributes: Attributes | None = None

    def to_fields(self) -> Fields:
        return Fields(
            title=self.title,
            source=self.source,
            tags=tuple(self.tags or ()),
            published_at=self.published_at,
            language=self.language,
            attributes=self.attributes or {},
        )


class FileDocument(DocumentFields):
    """What accompanies a file."""

    external_id: ExternalId | None = None


class TextDocument(FileDocument):
    """A document as JSON."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [said("text"), {**said("title"), "required": ["title"]}]})

    text: Annotated[str, AfterValidator(storable), WITHOUT_NUL] = Field(
        description="Up to 10 MB of UTF-8; empty only beside a title."
    )
    vector: Annotated[list[Coordinate], AfterValidator(check_vector), NOT_ALL_ZERO] | None = Field(
        default=None, description="Of the active embedding profile's dimension: one chunk with this embedding."
    )


class DocumentPatch(DocumentFields):
    """RFC 7396: null empties a field, what is absent stays."""

    def changes(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.model_fields_set}
