"""What schemathesis has to be told: how NDJSON is written, and which rules of a request no schema can say."""

from typing import Any, TypeAlias

import schemathesis
from schemathesis import Case as AnyCase
from schemathesis import HookContext
from schemathesis.core import NOT_SET

from service.domain.names import CONTROLS, EXTERNAL_ID_LENGTH
from service.domain.queries import Words

RAW_ONLY = {"external_id", "filename", "title", "source", "tags", "published_at", "attributes", "language"}
SPELLED = {"application/json", "application/merge-patch+json", "multipart/form-data"}
PATIENCE_MS = 10_000

Case: TypeAlias = AnyCase[Any]


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(_context: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: object) -> None:
    """Fields beside a file are query parameters with a raw body only, and a client's own deadline ends in a 503, as it must."""
    if case.media_type in SPELLED and case.query:
        case.query = {name: value for name, value in case.query.items() if name not in RAW_ONLY}
    if case.operation.definition.raw.get("operationId") == "put_document" and isinstance(case.body, dict):
        case.body = without_name(case.body)
    case.body = patient(case.body)


def patient(body: Any) -> Any:
    """A search, and each of a batch, with time enough."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("searches"), list):
        return {**body, "searches": [patient(each) for each in body["searches"]]}
    params = body.get("params")
    if isinstance(params, dict) and params.get("timeout_ms") in range(1, PATIENCE_MS):
        return {**body, "params": {**params, "timeout_ms": PATIENCE_MS}}
    return body


def without_name(body: dict[str, Any]) -> dict[str, Any]:
    """The path names the document that is PUT: a body that gives it a good name must give the same."""
    document = body.get("document")
    if isinstance(document, dict):
        return {**body, "document": without_name(document)}
    name = body.get("external_id")
    is_good = isinstance(name, str) and 0 < len(name) <= EXTERNAL_ID_LENGTH and not CONTROLS.search(name)
    return {field: value for field, value in body.items() if field != "external_id" or not is_good}


@schemathesis.hook
def filter_case(_context: HookContext, case: Case) -> bool:
    """Whatever is sent as a file is one, of no bytes too; a question of nothing but exclusions looks for nothing: 422."""
    if any("%" in name for name in names_of(case)):
        return (
            False  # The tool puts a name that looks percent-encoded into the next path as it is, and so names another.
        )
    if case.body is NOT_SET and isinstance(case.query, dict) and "filename" in case.query:
        return False
    if case.media_type not in {*SPELLED, None}:
        return isinstance(case.body, str | bytes)
    if not is_search(case) or not isinstance(case.body, dict):
        return True
    query = case.body.get("query")
    return not isinstance(query, str) or not query.strip() or bool(Words.parse(query).text)


def names_of(case: Case) -> list[str]:
    """The external_id that the case gives to a document, wherever it does."""
    document = case.body.get("document", case.body) if isinstance(case.body, dict) else {}
    given = [part.get("external_id") for part in (case.query, case.path_parameters, document) if isinstance(part, dict)]
    return [name for name in given if isinstance(name, str)]


def is_search(case: Case) -> bool:
    return bool(case.operation.definition.raw.get("operationId") == "search")
