"""The service seen from outside: a thin client of the HTTP contract for the commands that speak to it."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
)

from service.cli.address import Address
from service.cli.failures import ChangedError, CommandError, NoAnswerError, ProblemError, problem_of
from service.cli.retrying import BUSY, PATIENCE, BusyError, pause
from service.domain.bulk import BulkLoad

Json = dict[str, Any]

FIRST_PATIENCE = 2.0  # Seconds: a service that never answered is most likely not there.
TIMEOUT = httpx.Timeout(120.0, connect=5.0, pool=None)  # Longer than the longest `?wait=`, 60 s.


@dataclass(frozen=True)
class CollectionStatus:
    pending: int
    processing: int
    indexed: int
    failed: int
    waiting_jobs: int
    dead_jobs: int
    settled: bool

    @classmethod
    def from_json(cls, answer: Json) -> Self:
        documents = answer["documents"]
        return cls(
            pending=documents["pending"],
            processing=documents["processing"],
            indexed=documents["indexed"],
            failed=documents["failed"],
            waiting_jobs=answer["jobs"]["queued"] + answer["jobs"]["running"],
            dead_jobs=answer["jobs"]["dead"],
            settled=answer["settled"],
        )

    @property
    def total(self) -> int:
        return self.pending + self.processing + self.indexed + self.failed

    @property
    def finished(self) -> int:
        return self.indexed + self.failed


class ServiceClient:
    """Requests by name. Each may be sent twice without harm, so all are retried while the service is away or busy."""

    def __init__(self, http: httpx.AsyncClient, *, patience: float = PATIENCE) -> None:
        self._http = http
        self._patience = patience
        self._answered = False

    async def list_collections(self) -> AsyncIterator[Json]:
        async for collection in self._pages("/v1/collections", "collections"):
            yield collection

    async def find_collection(self, name: str) -> Json | None:
        try:
            return await self._json("GET", _collection(name))
        except ProblemError as problem:
            if problem.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def create_collection(self, name: str, *, language: str) -> None:
        """Create it; that it exists already is as good."""
        try:
            await self._json("POST", "/v1/collections", json={"name": name, "language": language})
        except ProblemError as problem:
            if problem.code != "collection_exists":
                raise

    async def declare_attributes(self, name: str, attributes: Mapping[str, str]) -> None:
        await self._json("PATCH", _collection(name), json={"attributes": attributes})

    async def delete_collection(self, name: str) -> None:
        await self.request("DELETE", _collection(name))

    async def bulk_load(self, name: str, method: Literal["PUT", "GET", "DELETE"]) -> BulkLoad:
        """Begin a load, look at it, or end it."""
        standing: BulkLoad = (await self._json(method, f"{_collection(name)}/bulk-load"))["index"]
        return standing

    async def collection_status(self, name: str) -> CollectionStatus:
        return CollectionStatus.from_json(await self.find_status(name))

    async def find_status(self, name: str) -> Json:
        return await self._json("GET", f"{_collection(name)}/status")

    async def put_file(
        self,
        collection: str,
        external_id: str,
        *,
        body: AsyncIterable[bytes],
        filename: str,
        content_type: str,
        size: int,
    ) -> int:
        """Upload a file and return the status: 200 when the service had it already. A retry reads `body` again."""
        response = await self.request(
            "PUT",
            _document(collection, external_id),
            params={"filename": filename},
            content=body,
            headers={"Content-Type": content_type, "Content-Length": str(size)},
        )
        return response.status_code

    async def post_document(self, collection: str, document: Json, *, wait: float | None = None) -> Json:
        params = {} if wait is None else {"wait": str(wait)}
        return await self._json("POST", f"{_collection(collection)}/documents", params=params, json=document)

    async def send_batch(self, collection: str, body: bytes) -> list[Json]:
        """Send up to 1,000 documents, one a line; the answers come in the order of the lines."""
        response = await self.request(
            "POST",
            f"{_collection(collection)}/documents:batch",
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        )
        return [orjson.loads(line) for line in response.content.splitlines() if line.strip()]

    async def find_document(self, document_id: str) -> Json:
        return await self._json("GET", _document_by_id(document_id))

    async def find_named_document(self, collection: str, external_id: str) -> Json:
        return await self._json("GET", _document(collection, external_id))

    async def content_link(self, document_id: str) -> tuple[str, bool]:
        """Where a document's bytes are, and whether the link needs no key: a file's is presigned, a text's is ours."""
        response = await self.request("HEAD", f"{_document_by_id(document_id)}/content")
        link = response.headers.get("Location")
        return (str(response.url), False) if link is None else (str(response.url.join(link)), True)

    async def list_documents(self, collection: str, *, status: str | None = None) -> AsyncIterator[Json]:
        async for document in self._pages(f"{_collection(collection)}/documents", "documents", status=status):
            yield document

    async def list_chunks(self, document_id: str) -> AsyncIterator[Json]:
        async for chunk in self._pages(f"{_document_by_id(document_id)}/chunks", "chunks"):
            yield chunk

    async def search(self, collection: str, request: Json) -> Json:
        return await self._json("POST", f"{_collection(collection)}/search", json=request)

    async def _pages(self, path: str, plural: str, **wanted: str | None) -> AsyncIterator[Json]:
        params = {"limit": "100"} | {name: value for name, value in wanted.items() if value is not None}
        while True:
            page = await self._json("GET", path, params=params)
            for each in page[plural]:
                yield each
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    async def _json(self, method: str, path: str, **parts: Any) -> Json:  # noqa: ANN401  (what httpx takes)
        try:
            answer = (await self.request(method, path, **parts)).json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise CommandError(f"What answers at {self._http.base_url} is not this service.")
        return answer

    async def request(self, method: str, path: str, **parts: Any) -> httpx.Response:  # noqa: ANN401
        """Send one request, again while the service is away or busy; raises ProblemError for 400 and above."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type((httpx.TransportError, BusyError))
            & retry_if_not_exception_type(httpx.LocalProtocolError),
            wait=lambda state: min(pause(state), self._patience),
            stop=self._patience_ended,
            reraise=True,
        )
        try:
            return await attempts(self._send, method, path, **parts)
        except BusyError as busy:
            raise problem_of(busy.response) from None
        except httpx.LocalProtocolError:
            raise ChangedError("The file changed while it was sent.") from None
        except httpx.TransportError as error:
            raise NoAnswerError(self._silence(error)) from None

    async def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:  # noqa: ANN401
        response = await self._http.request(method, path, **parts)
        self._answered = True
        if response.status_code in BUSY:
            raise BusyError(response)
        if response.is_error:
            raise problem_of(response)
        return response

    def _patience_ended(self, state: RetryCallState) -> bool:
        return (state.seconds_since_start or 0.0) >= (self._patience if self._answered else FIRST_PATIENCE)

    def _silence(self, error: httpx.TransportError) -> str:
        if self._answered:
            return f"The service at {self._http.base_url} stopped answering ({type(error).__name__})."
        return f"No service answers at {self._http.base_url}: start one with `make run`, or set SERVICE_URL."


@asynccontextmanager
async def open_client(address: Address, *, patience: float = PATIENCE) -> AsyncIterator[ServiceClient]:
    """Open a client whose first request may be the one that finds nobody there; `patience` in seconds."""
    loopback = httpx.URL(address.url).host in {"localhost", "127.0.0.1", "::1"}
    async with httpx.AsyncClient(
        base_url=address.url,
        headers={"Authorization": f"Bearer {address.api_key}"},
        timeout=TIMEOUT,
        trust_env=not loopback,  # HTTP_PROXY is for other machines.
    ) as http:
        yield ServiceClient(http, patience=patience)


def _collection(name: str) -> str:
    return f"/v1/collections/{quote(name, safe='')}"


def _document_by_id(document_id: str) -> str:
    return f"/v1/documents/{quote(document_id, safe='')}"


def _document(collection: str, external_id: str) -> str:
    return f"{_collection(collection)}/documents/{quote(external_id, safe='')}"
