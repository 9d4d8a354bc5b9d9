"""/openapi.json: what the framework reads off the routes, and the components that the routes only name."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.hits import SearchResponse
from service.api.openapi import examples, models
from service.api.openapi.filters import FILTER_SCHEMAS, JSON_SCHEMAS, ref
from service.api.openapi.operations import JSON, NULL_MARK, PROBLEM, headers, named
from service.api.problems import Problem
from service.api.recommend_schemas import RecommendRequest
from service.api.schemas import CollectionPatch, DocumentPatch, FileDocument, NewCollection, TextDocument
from service.api.search_batch_schemas import SearchBatchRequest, SearchBatchResponse
from service.api.search_schemas import SearchRequest
from service.api.uploads import Named
from service.domain.commits import CommitToken

Schema = dict[str, Any]

REQUESTS = (
    NewCollection,
    CollectionPatch,
    TextDocument,
    FileDocument,
    DocumentPatch,
    SearchRequest,
    RecommendRequest,
    SearchBatchRequest,
)
ANSWERS: tuple[type[BaseModel], ...] = (
    models.Collections,
    models.CollectionStatus,
    models.Documents,
    models.Chunks,
    models.BatchAnswer,
    models.BulkLoad,
    models.Health,
    SearchResponse,
    SearchBatchResponse,
    Problem,
)
TAGS = [
    {"name": "collections", "description": "A language, declared attributes, and the documents under one name."},
    {"name": "documents", "description": "JSON texts and files: accepted at once, searchable when `indexed`."},
    {"name": "search", "description": "Words and meaning, with filters on columns and attributes."},
    {"name": "health", "description": "For probes; no key is needed."},
]
TITLES: Mapping[int, str] = {
    400: "A body or a cursor that cannot be read",
    401: "No key, or not a live one",
    404: "Not found: unknown, ill-formed and foreign ids alike",
    409: "A conflict with what exists",
    412: "The document is not at this version",
    413: "Too large",
    415: "The route does not take this Content-Type or Content-Encoding",
    422: "A value that cannot be accepted; `errors` names it",
    428: "If-Match is required",
    503: "Try again after `Retry-After` seconds",
}
PROBLEM_HEADERS = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}
TOKEN = f"^{CommitToken.PATTERN}$"
HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "description": "The request's id in the log; a sane one that the client sent is kept.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "ETag": {"description": "The version.", "required": True, "schema": {"type": "string", "pattern": '^"[0-9]+"$'}},
    "X-Commit-Token": {
        "description": "Shown to a search, it is answered from after this write. Missing where the database ended in between.",
        "required": False,
        "schema": {"type": "string", "pattern": TOKEN},
    },
    "X-Read-From": {
        "description": "Where there is a replica: which database answered.",
        "required": False,
        "schema": {"type": "string", "enum": ["replica", "primary"]},
    },
    "Location": {"description": "Where it is.", "required": True, "schema": {"type": "string"}},
    "Bytes-ETag": {"description": "Of the bytes.", "required": True, "schema": {"type": "string"}},
    "Repr-Digest": {"description": "Of the file.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}},
}
TAGGED = '`*`, or the ETags of versions: `"3"`.'
PARAMETERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Up to 128 letters, digits and `._:/+=-`; anything else is replaced.",
        "schema": {"type": "string"},
        "examples": {"a name": {"value": "nightly-import:17"}},
    },
    "X-Commit-Token": {
        "name": "X-Commit-Token",
        "in": "header",
        "description": "Of an earlier write: the answer is from after it, if need be from the primary.",
        "schema": {"type": "string", "pattern": TOKEN},
        "examples": {"of a write": {"value": "6b03cf3475165fb7.18f2ea8"}},
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": f"The version to replace: {TAGGED} 412 when the document is at another.",
        "schema": {"type": "string"},
    },
    "If-Match-required": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "description": f"The version to change: {TAGGED} 412 when the document is at another.",
        "schema": {"type": "string"},
        "examples": {"any": {"value": "*"}, "the first": {"value": '"1"'}},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "`*`: create the document, and never replace one.",
        "schema": {"type": "string"},
    },
}


class DescribedApp(FastAPI):
    """An application whose document says what its routes read and answer by themselves."""

    def openapi(self) -> Schema:
        if self.openapi_schema is None:
            document = super().openapi()
            complete(document)
            self.openapi_schema = document
        resources = getattr(self.state, "resources", None)
        if resources is not None:
            say_dimension(self.openapi_schema, resources.profile.dimension)
        return self.openapi_schema


def complete(document: Schema) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            operation["summary"] = operation["operationId"].replace("_", " ").capitalize()
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/X-Request-Id"})
            for answer in operation["responses"].values():
                if answer.get("content", {}).get(JSON, {}).get("schema", True) == {}:
                    del answer["content"][JSON]  # The framework's guess, beside what the route says.
    components = document.setdefault("components", {})
    components["schemas"] = schemas()
    say_fields(document, components["schemas"]["FileDocument"]["properties"])
    components["responses"] = {str(status): problem_answer(status) for status in TITLES}
    components["headers"] = dict(HEADERS)
    components["parameters"] = dict(PARAMETERS)
    document.update(resolved(document))
    document["tags"] = TAGS
    document["servers"] = [{"url": "/"}]


def say_fields(document: Schema, fields: Schema) -> None:
    """A file's fields are query parameters: checked like those of a JSON document, so described by the same words.

    So is a filter in a URL by those of a filter in a body.
    """
    fields = {**fields, **Named.model_json_schema()["properties"]}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        for parameter in operation["parameters"]:
            if parameter.get("name") == "filter":
                parameter.pop("schema")
                parameter["content"] = {"application/json": {"schema": ref("Filter")}}
        if operation["operationId"] not in {"add_document", "put_document"}:
            continue
        for parameter in operation["parameters"]:
            if parameter.get("name") == "attributes":
                parameter.pop("schema")
                parameter["content"] = {"application/json": {"schema": ref("Attributes")}}
            elif parameter.get("in") == "query" and parameter["name"] in fields:
                parameter["schema"] = next(
                    each for each in fields[parameter["name"]]["anyOf"] if each != {"type": "null"}
                )


def schemas() -> Schema:
    wanted = [(model, "validation") for model in REQUESTS] + [(model, "serialization") for model in ANSWERS]
    made = models_json_schema(wanted, ref_template="#/components/schemas/{model}")[1]["$defs"]  # type: ignore[arg-type]  # literals
    return dict(sorted((made | FILTER_SCHEMAS | JSON_SCHEMAS).items()))


def resolved(schema: Any) -> Any:  # noqa: ANN401  JSON
    """With the nulls and the references that were only marked."""
    if schema == NULL_MARK:
        return None
    if isinstance(schema, list):
        return [resolved(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "x-component" in schema:
        return ref(schema["x-component"])
    return {name: resolved(member) for name, member in schema.items()}


def problem_answer(status: int) -> Schema:
    shown = {code: examples.problem(status, code) for code in examples.DETAILS[status]}
    return {
        "description": TITLES[status],
        "headers": headers("X-Request-Id", *PROBLEM_HEADERS.get(status, ())),
        "content": {PROBLEM: {"schema": ref("Problem"), "examples": named(shown)}},
    }


def say_dimension(document: Schema, dimension: int) -> None:
    """The active profile is known once the service has started."""
    for model in ("TextDocument", "SearchRequest"):
        for option in document["components"]["schemas"][model]["properties"]["vector"]["anyOf"]:
            if option.get("type") == "array":
                option |= {"minItems": dimension, "maxItems": dimension}
