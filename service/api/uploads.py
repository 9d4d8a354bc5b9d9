"""A request body becomes a submission: JSON, a raw file, or a multipart form with one."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.bodies import JSON_LIMIT, SMALL_LIMIT, counted, media_type, parse_json, read_bytes
from service.api.schemas import FileDocument, FileName, Strict, TextDocument
from service.domain.conditions import Condition
from service.domain.documents import TextBody
from service.domain.errors import InvalidError, MalformedError, TooLargeError
from service.domain.vectors import unit
from service.ingest.submit import Submission
from service.ingest.upload import FILE_LIMIT, receive_file, room_needed

FORM_OVERHEAD = SMALL_LIMIT + 64 * 1024  # The `document` part, and what is between the parts.
PART = 64 * 1024
REPEATED = {"type": "repeated", "msg": "given more than once"}


class Named(Strict):
    """A file's name, checked the same way wherever it comes from."""

    filename: FileName | None = None


@dataclass(frozen=True, slots=True)
class FileQuery:
    """The fields of a raw upload, as query parameters; only those that were given."""

    given: dict[str, Any]

    def to_document(self) -> tuple[FileDocument, str | None]:
        fields = dict(self.given)
        filename = Named(filename=fields.pop("filename", None)).filename
        if "attributes" in fields:
            try:
                fields["attributes"] = parse_json(fields["attributes"].encode(errors="replace"))
            except MalformedError as error:
                raise InvalidError("URL-encoded JSON is needed here", field="attributes") from error
        return FileDocument.model_validate(fields), filename


async def file_query(
    *,
    filename: str | None = None,
    title: str | None = None,
    source: str | None = None,
    tags: Annotated[list[str] | None, Query()] = None,
    published_at: str | None = None,
    attributes: Annotated[str | None, Query(description="JSON, URL-encoded.")] = None,
    language: str | None = None,
) -> FileQuery:
    """With a raw body only: JSON and multipart bodies say these things themselves."""
    return FileQuery({name: value for name, value in locals().items() if value is not None})


async def new_file_query(
    fields: Annotated[FileQuery, Depends(file_query)], external_id: str | None = None
) -> FileQuery:
    """The same for POST, whose path does not name the document."""
    return fields if external_id is None else FileQuery({**fields.given, "external_id": external_id})


@asynccontextmanager
async def read_submission(
    request: Request, query: FileQuery, condition: Condition, *, dimension: int
) -> AsyncIterator[Submission]:
    """What the client sent; a file lives on disk inside the `with`."""
    kind = media_type(request)
    if kind in {"application/json", "multipart/form-data"} and query.given:
        unknown = [{"type": "extra_forbidden", "loc": ("query", n), "msg": "for raw bodies only"} for n in query.given]
        raise RequestValidationError(unknown)
    if kind == "application/json":
        yield text_submission(parse_json(await read_bytes(request, JSON_LIMIT)), condition, dimension=dimension)
    elif kind == "multipart/form-data":
        async with form_submission(request, condition) as submission:
            yield submission
    else:
        document, filename = query.to_document()
        if kind is None and filename is None and has_no_body(request):
            raise InvalidError("a document is required: JSON, a file, or a form with one", field="body")
        async with receive_file(
            counted(request, FILE_LIMIT), filename=filename, declared=request.headers.get("content-type")
        ) as upload:
            yield Submission(document.external_id, document.to_fields(), upload, condition)


def has_no_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers


def text_submission(raw: object, condition: Condition, *, dimension: int) -> Submission:
    """Raises ValidationError and InvalidError."""
    document = TextDocument.model_validate(raw)
    if not document.text and not document.title:
        raise InvalidError("text and title must not both be empty", field="text")
    if document.vector is not None and len(document.vector) != dimension:
        raise InvalidError(f"the active embedding profile has {dimension} dimensions", field="vector")
    vector = None if document.vector is None else unit(document.vector)
    return Submission(document.external_id, document.to_fields(), TextBody(document.text, vector), condition)


@asynccontextmanager
async def form_submission(request: Request, condition: Condition) -> AsyncIterator[Submission]:
    form = await read_form(request)
    try:
        unknown = [
            {"type": "extra_forbidden", "loc": ("body", n), "msg": "unknown part"} for n in form if n not in PARTS
        ]
        repeated = [{**REPEATED, "loc": ("body", n)} for n in PARTS if len(form.getlist(n)) > 1]
        if unknown or repeated:
            raise RequestValidationError(unknown + repeated)
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidError("a part with the file, and with its filename, is required", field="file")
        document = FileDocument.model_validate(parse_json(await document_part(form)))
        filename = Named(filename=file.filename or None).filename
        async with receive_file(parts_of(file), filename=filename, declared=file.content_type) as upload:
            yield Submission(document.external_id, document.to_fields(), upload, condition)
    finally:
        await form.close()


PARTS = ("file", "document")


async def read_form(request: Request) -> FormData:
    """Raises MalformedError and TooLargeError."""
    stream = counted(request, FILE_LIMIT + FORM_OVERHEAD)
    try:
        parser = WholeForm(
            request.headers,
            stream,
            max_files=len(PARTS),
            max_fields=len(PARTS) + 1,
            max_part_size=SMALL_LIMIT,
        )
        with room_needed():
            return await parser.parse()
    except MultiPartException as error:
        if "maximum size" in error.message:
            raise TooLargeError(f"the part `document` has at most {SMALL_LIMIT} bytes") from error
        raise MalformedError(f"this is not a form with one file: {error.message}") from error


class WholeForm(MultiPartParser):
    """Insists on the form's last boundary, without which the framework gives what it has."""

    is_whole = False

    def on_end(self) -> None:
        self.is_whole = True

    async def parse(self) -> FormData:
        self.stream = self.to_its_end(self.stream)
        return await super().parse()

    async def to_its_end(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for part in stream:
            yield part
        if not self.is_whole:
            raise MultiPartException("its last boundary is missing")


async def document_part(form: FormData) -> bytes:
    part = form.get("document")
    if isinstance(part, UploadFile):
        raw = await part.read(SMALL_LIMIT + 1)
        if len(raw) > SMALL_LIMIT:
            raise TooLargeError(f"the part `document` has at most {SMALL_LIMIT} bytes")
        return raw
    return (part or "{}").encode(errors="replace")


async def parts_of(file: UploadFile) -> AsyncIterator[bytes]:
    while part := await file.read(PART):
        yield part


def check_path(submission: Submission, external_id: str) -> Submission:
    """PUT: the path names the document; a body that names it too must agree."""
    if submission.external_id not in {None, external_id}:
        raise InvalidError("the path says otherwise", field="external_id")
    return Submission(external_id, submission.fields, submission.body, submission.condition)
