"""What tests of the operations share: a collector of traces, processes with their logs, and scrapes that are read."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.settings import Settings
from tests.api_calls import Api

ROOT = Path(__file__).parents[1]

Line = dict[str, Any]
Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class Collector:
    """What an OTLP collector has received, by the name of the service that sent it."""

    url: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        return [span for _, span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {each.key: each.value.string_value for each in sent.resource.attributes}
            self.spans += [(names["service.name"], span) for scope in sent.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, str | int]:
    kinds = {each.key: each.value for each in span.attributes}
    return {
        key: value.string_value if value.WhichOneof("value") == "string_value" else value.int_value
        for key, value in kinds.items()
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector of traces on a free port, which decodes what it is sent."""
    collector = Collector()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Process:
    """`python -m service …`, and what it says."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def lines(self, event: str | None = None) -> list[Line]:
        """Every line must be one JSON object."""
        read = [json.loads(line) for line in self.said.splitlines()]
        return [line for line in read if event is None or line["event"] == event]

    async def end(self) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.popen.wait, 60)


@asynccontextmanager
async def process(words: Sequence[str], environment: Mapping[str, str], *, log: Path) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "service", *words]
    with log.open("wb") as file:
        popen = subprocess.Popen(  # noqa: ASYNC220  it is started, not waited for
            command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1", **environment}, stdout=file, stderr=file
        )
    running = Process(popen, log)
    try:
        yield running
    finally:
        try:
            await running.end()
        finally:
            popen.kill()


def families(text: str) -> dict[str, Metric]:
    """By the name that samples begin with."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text: str) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return values(text).get((name, frozenset(labels.items())))


async def scrape(client: httpx.AsyncClient) -> str:
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return answer.text


@asynccontextmanager
async def serving(settings: Settings, api: Api, **changes: object) -> AsyncIterator[tuple[FastAPI, Api]]:
    """The same service with other settings, as the same tenant."""
    app = create_app(settings.model_copy(update=changes))
    headers = {"Authorization": api.client.headers["Authorization"]}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client,
    ):
        yield app, Api(client)
