"""Around every request: its id, HEAD by way of GET, the log line, its time, and the answer to what nobody expected."""

import re
import time

import structlog
from prometheus_client import Histogram
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response, trouble_of
from service.domain.ids import new_id
from service.telemetry.logs import request_scope

HEAD_ONLY = "service.head_only"  # In the scope: a route may spare itself what HEAD does not show.
SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")  # Goes into logs and headers as it is.
QUIET = {"/livez", "/readyz", "/metrics"}  # Asked all the time: not logged, not traced.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CLIENT_LEFT = 499  # nginx' word for it: nothing was answered, because nobody was there any more

log = structlog.get_logger(__name__)


class RequestEnvelope:
    """Pure ASGI: a middleware that waits for the whole response would break streaming and cancellation."""

    def __init__(self, app: ASGIApp, *, requests: Histogram) -> None:
        self._app = app
        self._requests = requests
        self._series: dict[tuple[str, str, int], Histogram] = {}  # What `labels` finds, found once.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        method = scope["method"]
        answer = Answer(send, request_id, is_head=method == "HEAD")
        inner = {**scope, "method": "GET", HEAD_ONLY: True} if answer.is_head else scope
        started = time.perf_counter()
        with request_scope(request_id):
            try:
                await self._app(inner, receive, answer.send)
            except ClientDisconnect:
                log.info("client_left", method=method, path=scope["path"])
            except Exception as error:
                if answer.status is not None:
                    raise  # Half an answer is out: only a broken connection tells the client.
                log.exception("unexpected_error", method=method, path=scope["path"])
                response = problem_response(Request(scope), trouble_of(error))
                await response(scope, receive, answer.send)
            finally:
                self._end(inner, answer.status or CLIENT_LEFT, method=method, seconds=time.perf_counter() - started)

    def _end(self, scope: Scope, status: int, *, method: str, seconds: float) -> None:
        route = route_of(scope)
        labels = method if method in METHODS else "other", route, int(status)
        if (series := self._series.get(labels)) is None:
            series = self._series[labels] = self._requests.labels(labels[0], route, str(labels[2]))
        series.observe(seconds)
        if scope["path"] not in QUIET:
            took_ms = round(seconds * 1000, 1)
            log.info("request", method=method, route=route, path=scope["path"], status=int(status), took_ms=took_ms)


class Answer:
    """Lets the response through with its request id; of an answer to HEAD, only the headers."""

    def __init__(self, send: Send, request_id: str, *, is_head: bool) -> None:
        self._send = send
        self._request_id = request_id
        self.is_head = is_head
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers.setdefault("Cache-Control", "no-store")
        elif message["type"] == "http.response.body" and self.is_head:
            message = {**message, "body": b""}
        await self._send(message)


def route_of(scope: Scope) -> str:
    """The route's template, such as `/v1/collections/{name}`: what clients name would make a series each."""
    return getattr(scope.get("route"), "path", "unmatched")


def request_id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value.decode())
    return str(new_id())
