"""The service seen from outside: a thin client of the HTTP contract for the commands that speak to it."""

import datetime as dt
import email.utils
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

import httpx
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_random_exponential,
)

from service.cli.address import Address
from service.cli.failures import ChangedError, CommandError, NoAnswerError, ProblemError, problem_of

Json = dict[str, Any]

BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
FIRST_PATIENCE = 2.0  # Seconds: a service that never answered is most likely not there.
PATIENCE = 60.0  # Seconds: a service that answered before is restarting or busy.
TIMEOUT = httpx.Timeout(120.0, connect=5.0, pool=None)  # Longer than the longest `?wait=`, 60 s.


@dataclass(frozen=True)
class CollectionStatus:
    pending: int
    processing: int
    indexed: int
    failed: int
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

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._answered = False

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

    async def delete_collection(self, name: str) -> None:
        await self.request("DELETE", _collection(name))

    async def collection_status(self, name: str) -> CollectionStatus:
        return CollectionStatus.from_json(await self._json("GET", f"{_collection(name)}/status"))

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

    async def list_documents(self, collection: str, *, status: str | None = None) -> AsyncIterator[Json]:
        params = {"limit": "100"} | ({"status": status} if status else {})
        while True:
            page = await self._json("GET", f"{_collection(collection)}/documents", params=params)
            for document in page["documents"]:
                yield document
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    async def list_chunks(self, document_id: str) -> AsyncIterator[Json]:
        params = {"limit": "100"}
        while True:
            page = await self._json("GET", f"/v1/documents/{quote(document_id, safe='')}/chunks", params=params)
            for chunk in page["chunks"]:
                yield chunk
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    async def search(self, collection: str, request: Json) -> Json:
        return await self._json("POST", f"{_collection(collection)}/search", json=request)

    async def _json(self, method: str, path: str, **parts: Any) -> Json:  # noqa: ANN401  (what httpx takes)
        answer = (await self.request(method, path, **parts)).json()
        if not isinstance(answer, dict):
            raise CommandError(f"What answers at {self._http.base_url} is not this service.")
        return answer

    async def request(self, method: str, path: str, **parts: Any) -> httpx.Response:  # noqa: ANN401
        """Send one request, again while the service is away or busy; raises ProblemError for 400 and above."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type((httpx.TransportError, _BusyError))
            & retry_if_not_exception_type(httpx.LocalProtocolError),
            wait=_pause,
            stop=self._patience_ended,
            reraise=True,
        )
        try:
            return await attempts(self._send, method, path, **parts)
        except _BusyError as busy:
            raise problem_of(busy.response) from None
        except httpx.LocalProtocolError:
            raise ChangedError("The file changed while it was sent.") from None
        except httpx.TransportError as error:
            raise NoAnswerError(self._silence(error)) from None

    async def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:  # noqa: ANN401
        response = await self._http.request(method, path, **parts)
        self._answered = True
        if response.status_code in BUSY:
            raise _BusyError(response)
        if response.is_error:
            raise problem_of(response)
        return response

    def _patience_ended(self, state: RetryCallState) -> bool:
        return (state.seconds_since_start or 0.0) >= (PATIENCE if self._answered else FIRST_PATIENCE)

    def _silence(self, error: httpx.TransportError) -> str:
        if self._answered:
            return f"The service at {self._http.base_url} stopped answering ({type(error).__name__})."
        return f"No service answers at {self._http.base_url}: start one with `make run`, or set SERVICE_URL."


@asynccontextmanager
async def open_client(address: Address) -> AsyncIterator[ServiceClient]:
    """Open a client whose first request may be the one that finds nobody there."""
    loopback = httpx.URL(address.url).host in {"localhost", "127.0.0.1", "::1"}
    async with httpx.AsyncClient(
        base_url=address.url,
        headers={"Authorization": f"Bearer {address.api_key}"},
        timeout=TIMEOUT,
        trust_env=not loopback,  # HTTP_PROXY is for other machines.
    ) as http:
        yield ServiceClient(http)


class _BusyError(Exception):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


_backoff = wait_random_exponential(multiplier=0.25, max=5.0)


def _pause(state: RetryCallState) -> float:
    """Seconds to the next attempt: what the service asked for, else a random growing pause."""
    error = state.outcome.exception() if state.outcome else None
    asked = retry_after(error.response.headers) if isinstance(error, _BusyError) else None
    return _backoff(state) if asked is None else min(asked, PATIENCE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header in either of its forms, a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        due = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (due - dt.datetime.now(dt.UTC)).total_seconds())


def _collection(name: str) -> str:
    return f"/v1/collections/{quote(name, safe='')}"


def _document(collection: str, external_id: str) -> str:
    return f"{_collection(collection)}/documents/{quote(external_id, safe='')}"
