"""/v1/collections/{name}/documents:batch: a document a line, an answer a line."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import cast
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from service.api.answers import Json, to_json
from service.api.auth import TenantId
from service.api.bodies import counted, media_type, parse_json
from service.api.commit_tokens import committed
from service.api.deps import EVERY_ROUTE, Tools
from service.api.documents import require_collection
from service.api.openapi import examples, told
from service.api.openapi.operations import answers, named
from service.api.paths import CollectionName
from service.api.problems import trouble_of
from service.api.uploads import text_submission
from service.domain.conditions import UNCONDITIONAL
from service.domain.documents import TextBody
from service.domain.errors import (
    NotFoundError,
    OverloadedError,
    ServiceError,
    TooLargeError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from service.domain.ids import new_id
from service.ingest.accept import Accepted, Offer
from service.ingest.batch import WAVE, accept_offers
from service.ingest.submit import text_version
from service.resources import Resources

router = APIRouter(prefix="/v1/collections/{name}", tags=["documents"], dependencies=EVERY_ROUTE)

NDJSON = "application/x-ndjson"
LIMIT, LINES = 32 * 1024 * 1024, 1_000
FATAL = (NotFoundError, OverloadedError, UnavailableError)  # About the batch, not about a line of it.
Reply = Accepted | Exception


@router.post(
    "/documents:batch",
    response_class=Response,
    operation_id="add_documents",
    responses=answers({200: told.BATCH}, 404, 413, 415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A `TextDocument` on each line.",
            "content": {NDJSON: {"schema": {"type": "string"}, "examples": named({"two": examples.BATCH})}},
        }
    },
)
async def post_batch(name: CollectionName, request: Request, tenant_id: TenantId, tools: Tools) -> Response:
    """Add or replace up to 1,000 documents. A line's status is what the line alone would have had; 2xx means durable."""
    if media_type(request) != NDJSON:
        raise UnsupportedMediaTypeError(f"this route takes {NDJSON}")
    await require_collection(name, tenant_id, tools)
    lines = await read_lines(request)
    answers: list[Json] = []
    fatal: ServiceError | None = None
    for part in hundreds(lines):
        # A hundred at a time: parsing must not hold up the other requests of this process.
        replies = [fatal] * len(part) if fatal else await take(name, [raw for _, raw in part], tenant_id, tools)
        fatal = next((each for each in replies if isinstance(each, FATAL)), None)
        if fatal is not None and not answers and not any(isinstance(each, Accepted) for each in replies):
            raise fatal
        answers += [show(number, reply, request) for (number, _), reply in zip(part, replies, strict=True)]
    response = Response(b"".join(to_json(each) + b"\n" for each in answers), media_type=NDJSON)
    return await committed(response, tools.primary)


async def read_lines(request: Request) -> list[tuple[int, bytes]]:
    """The lines with their numbers; blank ones count, and have no answer. Raises TooLargeError."""
    raw = b"".join([part async for part in counted(request, LIMIT)])
    lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), start=1) if line.strip()]
    if len(lines) > LINES:
        raise TooLargeError(f"a batch has at most {LINES} lines")
    return lines


def hundreds(lines: list[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    for start in range(0, len(lines), WAVE):
        yield lines[start : start + WAVE]


async def take(name: str, lines: list[bytes], tenant_id: UUID, tools: Resources) -> list[Reply]:
    """A reply for each line: parsed first, so that a bad one disturbs no other."""
    parsed = [parse_line(line, dimension=tools.profile.dimension) for line in lines]
    offers = [each for each in parsed if isinstance(each, Offer)]
    accepted = iter(await accept_offers(offers, name, tenant_id=tenant_id, primary=tools.primary))
    return [next(accepted) if isinstance(each, Offer) else each for each in parsed]


def parse_line(line: bytes, *, dimension: int) -> Offer | Exception:
    try:
        submission = text_submission(parse_json(line), UNCONDITIONAL, dimension=dimension)
        version = text_version(submission.fields, cast("TextBody", submission.body))
    except (ServiceError, ValidationError) as error:
        return error
    return Offer(new_id(), submission.external_id, version)


def show(number: int, reply: Reply, request: Request) -> Json:
    if isinstance(reply, Accepted):
        status = HTTPStatus.OK if reply.outcome == "unchanged" else HTTPStatus.ACCEPTED
        return {"line": number, "status": status, "id": str(reply.document_id)}
    trouble = trouble_of(reply)
    return {"line": number, "status": trouble.status, "problem": trouble.to_problem(request.state.request_id)}
