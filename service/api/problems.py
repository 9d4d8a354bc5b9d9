"""RFC 9457 problems, and the one table that says which status each error of the domain becomes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.api.answers import to_json
from service.domain import errors

RETRY_AFTER_SECONDS = 1

# error: (HTTP status, code)
STATUS: dict[type[errors.ServiceError], tuple[int, str]] = {
    errors.MalformedError: (400, "malformed"),
    errors.CursorMismatchError: (400, "cursor_mismatch"),
    errors.UnauthorizedError: (401, "unauthorized"),
    errors.NotFoundError: (404, "not_found"),
    errors.CollectionExistsError: (409, "collection_exists"),
    errors.DocumentExistsError: (409, "document_exists"),
    errors.NotFailedError: (409, "not_failed"),
    errors.InProgressError: (409, "in_progress"),
    errors.PreconditionFailedError: (412, "precondition_failed"),
    errors.TooLargeError: (413, "too_large"),
    errors.UnsupportedMediaTypeError: (415, "unsupported_media_type"),
    errors.InvalidError: (422, "invalid"),
    errors.PreconditionRequiredError: (428, "precondition_required"),
    errors.OverloadedError: (503, "overloaded"),
    errors.UnavailableError: (503, "unavailable"),
}
# What the framework raises by itself.
HTTP_CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
INTERNAL = (500, "internal")
EXPECTED = (errors.ServiceError, RequestValidationError, ValidationError)  # What `answer_error` answers.
JSON_ERRORS = {"json_invalid", "json_type"}
SURROGATES = re.compile("[\ud800-\udfff]")

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """What every answer that is not a success looks like."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    errors: list[FieldError] | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem before it knows its request."""

    status: int
    code: str
    detail: str
    errors: tuple[tuple[str, str], ...] = ()

    def to_problem(self, request_id: str | None) -> dict[str, object]:
        problem: dict[str, object] = {
            "type": f"/problems/{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": printable(self.detail),
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            problem["errors"] = [{"field": printable(f), "message": printable(m)} for f, m in self.errors]
        return problem


def printable(text: str) -> str:
    """A client's own key may come back in a field's name; half a surrogate pair in it cannot."""
    return SURROGATES.sub("\ufffd", text)


def trouble_of(error: Exception) -> Trouble:
    """What to tell the client. Anything unexpected says nothing about itself; the log says it all."""
    if isinstance(error, RequestValidationError | ValidationError):
        return invalid(error.errors(), framework=isinstance(error, RequestValidationError))
    if isinstance(error, errors.InvalidError):
        return Trouble(422, "invalid", f"{error.field}: {error}", ((error.field, str(error)),))
    for kind in type(error).__mro__:
        if kind in STATUS:
            status, code = STATUS[kind]
            return Trouble(status, code, str(error))
    return Trouble(*INTERNAL, "the service failed; its log says why under this request_id")


def invalid(found: Sequence[Any], *, framework: bool) -> Trouble:
    if any(each["type"] in JSON_ERRORS for each in found):
        return Trouble(400, "malformed", "the body is not JSON")
    pairs = []
    for each in found:
        # The framework says first where it looked: body, query, path.
        location = each["loc"][1:] if framework else each["loc"]
        field = ".".join(str(part) for part in location) or "body"
        pairs.append((field, each["msg"].removeprefix("Value error, ")))
    return Trouble(422, "invalid", "; ".join(f"{field}: {message}" for field, message in pairs), tuple(pairs))


def problem_response(request: Request, trouble: Trouble, headers: dict[str, str] | None = None) -> Response:
    headers = dict(headers or {})
    if trouble.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if trouble.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    problem = trouble.to_problem(getattr(request.state, "request_id", None))
    return Response(to_json(problem), trouble.status, headers, media_type="application/problem+json")


async def answer_error(request: Request, error: Exception) -> Response:
    trouble = trouble_of(error)
    if trouble.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request_failed", code=trouble.code, exc_info=error)
    return problem_response(request, trouble)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Unknown routes and methods, and whatever else the framework refuses."""
    refused = cast("HTTPException", error)
    code = HTTP_CODES.get(refused.status_code, "malformed")
    headers = dict(refused.headers or {})
    if refused.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request))
    return problem_response(request, Trouble(refused.status_code, code, str(refused.detail)), headers)


def allowed_methods(request: Request) -> list[str]:
    """Of every route with this path: the framework names those of the first only.

    `/v1/documents/x:retry` is also a document's path with an odd id; the longer template is what was meant.
    """
    fitting = [route for route in iter_route_contexts(request.app.routes) if route.path_regex.match(request.url.path)]
    meant = max((route.path or "" for route in fitting), key=len, default="")
    methods: set[str] = set().union(*(route.methods or () for route in fitting if route.path == meant))
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def add_problem_handlers(app: FastAPI) -> None:
    for error in EXPECTED:
        app.add_exception_handler(error, answer_error)
    app.add_exception_handler(HTTPException, answer_http_error)
