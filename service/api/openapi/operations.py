"""What a route says of itself in /openapi.json: its answers with their headers, and the bodies that it reads by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from service.api.openapi.examples import FILE_FIELDS, RAW_TEXT, Examples

JSON = "application/json"
PROBLEM = "application/problem+json"
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
KEYED = (401, 422, 503)  # Whatever a route with a key does: no key, an unknown query parameter, a part that is away.
NULL_MARK: Mapping[str, bool] = {"x-null": True}
NAMES = {"Bytes-ETag": "ETag"}
AFTER = "X-Commit-Token"  # the parameter of what may be read from a replica

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: its schema, by name or spelled, its headers beside X-Request-Id, and examples of it."""

    description: str
    model: type[BaseModel] | Schema | None = None
    headers: tuple[str, ...] = ()
    examples: Examples = field(default_factory=dict)
    media_type: str = JSON

    def to_openapi(self) -> Schema:
        shown: Schema = {"description": self.description, "headers": headers("X-Request-Id", *self.headers)}
        if self.model is not None:
            content: Schema = {"schema": schema_of(self.model)}
            if self.examples:
                content["examples"] = named(self.examples)
            shown["content"] = {self.media_type: content}
        return shown


def answers(successes: dict[int, Answer], *problems: int, keyed: bool = True) -> dict[int | str, Schema]:
    """The `responses` of a route, in order of status. A problem stands for every one of its status."""
    statuses = {*problems, *(KEYED if keyed else ())}
    shown: dict[int | str, Schema] = {status: answer.to_openapi() for status, answer in sorted(successes.items())}
    return shown | {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}


def json_body(model: type[BaseModel], *types: str, examples: Examples) -> Schema:
    """The `openapi_extra` of a route that reads JSON by itself."""
    content = {"schema": schema_of(model), "examples": named(examples)}
    return {"requestBody": {"required": True, "content": dict.fromkeys(types or (JSON,), content)}}


def with_headers(*names: str, body: Schema | None = None) -> Schema:
    """The `openapi_extra` of a route that reads these headers."""
    return {**(body or {}), "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names]}


def headers(*components: str) -> Schema:
    """By the name of the header; of two with one name, the component's has a word before it."""
    return {NAMES.get(name, name): {"$ref": f"#/components/headers/{name}"} for name in components}


def schema_of(model: type[BaseModel] | Schema) -> Schema:
    return model if isinstance(model, dict) else {"$ref": f"#/components/schemas/{model.__name__}"}


def named(examples: Examples) -> Schema:
    return {name: {"value": with_marks(value)} for name, value in examples.items()}


def with_marks(value: object) -> object:
    """The framework drops every null from what a route says; a mark stays, and `document.py` puts the null back."""
    if isinstance(value, list):
        return [with_marks(each) for each in value]
    if isinstance(value, Mapping):
        return {name: with_marks(member) for name, member in value.items()}
    return NULL_MARK if value is None else value


def document_body(body: type[BaseModel], file: type[BaseModel], bodies: Examples) -> Schema:
    """A document in any of its three forms: JSON, a form with a file, or the file itself."""
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": FILE, "document": schema_of(file)},
        "additionalProperties": False,
    }
    raw = {"schema": FILE, "examples": named({"markdown": RAW_TEXT})}
    parts = {"document": {"contentType": JSON}}
    content = {
        JSON: {"schema": schema_of(body), "examples": named(bodies)},
        "multipart/form-data": {
            "schema": form,
            "encoding": parts,
            "examples": named({"markdown": {"file": RAW_TEXT, "document": FILE_FIELDS}}),
        },
        "text/markdown": raw,
        "text/plain": raw,
        "text/html": {"schema": FILE},
        "application/pdf": {"schema": FILE},
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": {"schema": FILE},
        "application/octet-stream": raw,
    }
    said = "JSON, a form with a file, or the file itself under any other Content-Type: its bytes tell what it is."
    return {"requestBody": {"required": True, "description": said, "content": content}}
