"""The two processes as an operator sees them: their logs, their metrics, and their traces at a collector."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.db.keys import create_key
from service.db.owner import as_owner
from service.local.ports import free_port
from service.settings import Settings
from tests.api_calls import Api
from tests.operations_calls import Collector, Process, attributes, collecting, families, process, values
from tests.worker_calls import environment_of, until

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CLIENT_WORDS = ("nobodys-own-name", "growling", "quokka", "third-tenant")


@dataclass(frozen=True)
class Running:
    """After some requests with request ids: an upload of three documents, searches of every kind, and mistakes."""

    api: Process
    worker: Process
    collector: Collector
    document_id: str
    client: httpx.AsyncClient
    api_metrics: str
    worker_metrics: str


@pytest.fixture(scope="module")
async def running(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    logs = tmp_path_factory.mktemp("logs")
    port, worker_port = free_port(), free_port()
    with collecting() as collector:
        environment = environment_of(settings) | {
            "PORT": str(port),
            "WORKER_METRICS_PORT": str(worker_port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
            "RECALL_SAMPLE_SHARE": "1",
        }
        async with (
            process(["serve"], environment, log=logs / "api") as api,
            process(["worker"], environment, log=logs / "worker") as worker,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            await until(lambda: answers(client, "/readyz"), 60)
            await until(lambda: answers(client, f"http://127.0.0.1:{worker_port}/metrics"), 60)
            document_id = await act(client, settings)
            await until(lambda: has_measured_recall(client))
            api_metrics = (await client.get("/metrics")).text
            worker_metrics = (await client.get(f"http://127.0.0.1:{worker_port}/metrics")).text
            await until(lambda: is_collected(collector))
            yield Running(api, worker, collector, document_id, client, api_metrics, worker_metrics)


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.TransportError:
        return False


async def has_measured_recall(client: httpx.AsyncClient) -> bool:
    return "search_recall_at_10_count" in (await client.get("/metrics")).text


async def is_collected(collector: Collector) -> bool:
    return bool(len(collector.named("statement")) >= 5 and collector.named("job"))


async def act(client: httpx.AsyncClient, settings: Settings) -> str:
    """Returns the id of the document that was uploaded under the request id `upload-1`."""
    direct_url = settings.database_direct_url
    assert direct_url is not None
    async with as_owner(direct_url.get_secret_value()) as connection:
        client.headers["Authorization"] = f"Bearer {await create_key(connection, 'third-tenant', 'test')}"
    api = Api(client)
    collection = await api.make_collection("nobodys-own-name")
    marks = {"X-Request-Id": "upload-1", "traceparent": TRACEPARENT}
    url = f"/v1/collections/{collection}/documents"
    body = {"external_id": "quokka", "text": "a growling bear"}
    document = (await client.post(url, json=body, params={"wait": 20}, headers=marks)).json()
    assert document["status"] == "indexed"
    assert (await api.make_document(collection, wait=20, text="a bear"))["status"] == "indexed"
    broken = await api.make_file(collection, b"%PDF-1.7 broken", wait=20, filename="a.pdf")
    assert broken["status"] == "failed"
    for query in (
        {"query": "growling"},
        {"query": "growling", "mode": "lexical"},
        {"query": '"growling bear"'},
        {"query": "growling", "mode": "semantic"},
        {"query": "growling bear", "params": {"budget": 1}},
    ):
        found = await client.post(f"/v1/collections/{collection}/search", json=query, headers={"X-Request-Id": "ask-1"})
        assert found.json()["hits"], found.text
    await client.get("/v1/collections/quokka")
    await client.get("/quokka/growling")
    await client.request("PROPFIND", "/v1/collections")
    await client.head("/v1/collections/nobodys-own-name")
    await client.get("/livez")

    async def settled() -> bool:
        return bool((await api.status(collection))["settled"])

    await until(settled)
    # Only `worker --owner` does what this asks for, so a job stays.
    await client.patch(f"/v1/collections/{collection}", json={"attributes": {"year": "integer"}})
    return str(document["id"])


def test_every_line_of_both_processes_is_json_with_a_time_a_level_and_an_event(running: Running) -> None:
    lines = running.api.lines() + running.worker.lines()

    assert all({"event", "level", "timestamp", "logger"} <= line.keys() for line in lines)
    assert len(lines) > 10


def test_a_request_is_one_line_with_its_id_route_status_and_time(running: Running) -> None:
    [upload] = [line for line in running.api.lines("request") if line["request_id"] == "upload-1"]

    assert upload["method"] == "POST"
    assert upload["route"] == "/v1/collections/{name}/documents"
    assert upload["path"] == "/v1/collections/nobodys-own-name/documents"
    assert upload["status"] == 201
    assert 0 < upload["took_ms"] < 20_000
    assert upload["trace_id"] == TRACEPARENT.split("-")[1]


def test_a_head_is_logged_as_one_and_probes_are_not_logged(running: Running) -> None:
    requests = running.api.lines("request")

    assert [line["route"] for line in requests if line["method"] == "HEAD"] == ["/v1/collections/{name}"]
    assert {line["path"] for line in requests} & {"/livez", "/readyz", "/metrics"} == set()


def test_the_workers_lines_name_the_document_its_job_and_the_request_that_made_it(running: Running) -> None:
    [line] = [x for x in running.worker.lines("document indexed") if x["document_id"] == running.document_id]
    [failed] = running.worker.lines("document failed")

    assert (line["request_id"], line["version"], line["chunks"], line["attempt"]) == ("upload-1", 1, 1, 1)
    assert line["job_id"]
    assert failed["code"] == "corrupt"
    assert failed["request_id"] != "upload-1"


def documented() -> dict[str, tuple[str, frozenset[str], str, str]]:
    """Name: type, labels, processes and meaning, as the reference page has them."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)), where, meaning)
        for name, kind, labels, where, meaning in rows
    }


def shown(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Name as it is queried (a counter's with `_total`): type and labels of every metric that has a value."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
        )
        for family in families(text).values()
        if family.samples and family.name.startswith(("hybrid_", "search_"))
    }


@pytest.mark.parametrize("where", ["api", "worker"])
def test_the_reference_page_lists_every_metric_with_its_type_and_labels(running: Running, where: str) -> None:
    page = documented()
    text = {"api": running.api_metrics, "worker": running.worker_metrics}[where]

    assert shown(text) == {name: row[:2] for name, row in page.items() if where in row[2]}


def test_the_reference_page_says_what_the_metrics_say_of_themselves(running: Running) -> None:
    helped = families(running.api_metrics)

    for name, (*_, meaning) in documented().items():
        assert meaning.startswith(helped[name.removesuffix("_total")].documentation), name


def test_no_label_holds_a_word_of_a_client(running: Running) -> None:
    for text in (running.api_metrics, running.worker_metrics):
        for word in (*CLIENT_WORDS, running.document_id, "PROPFIND"):
            assert word not in text


def test_requests_are_counted_by_the_template_of_their_route(running: Running) -> None:
    counted = values(running.api_metrics)

    def count(method: str, route: str, status: str) -> float:
        labels = {"method": method, "route": route, "status": status}
        return counted["hybrid_http_request_seconds_count", frozenset(labels.items())]

    assert count("POST", "/v1/collections/{name}/search", "200") == 5
    assert count("GET", "/v1/collections/{name}", "404") == 1
    assert count("GET", "unmatched", "404") == 1
    assert count("other", "/v1/collections", "405") == 1
    assert count("HEAD", "/v1/collections/{name}", "200") == 1


def test_the_stages_of_a_search_and_the_way_of_its_statement_are_counted(running: Running) -> None:
    counted = values(running.api_metrics)
    stages = {
        stage: counted["hybrid_search_stage_seconds_count", frozenset({("stage", stage)})]
        for stage in ("embedding", "statement", "rest")
    }
    ways = {
        way: counted["hybrid_search_routes_total", frozenset({("route", way)})]
        for way in ("exact", "lexical", "phrase")
    }

    assert stages["embedding"] == 4  # not the lexical one
    assert stages["rest"] == 5
    assert stages["statement"] >= 5  # A leg alone may look twice.
    assert ways == {"exact": 3, "lexical": 1, "phrase": 1}


def test_the_worker_counts_documents_chunks_and_seconds(running: Running) -> None:
    counted = values(running.worker_metrics)

    assert counted["hybrid_indexed_documents_total", frozenset({("outcome", "indexed")})] == 2
    assert counted["hybrid_indexed_documents_total", frozenset({("outcome", "corrupt")})] == 1
    assert counted["hybrid_indexed_chunks_total", frozenset({("kind", "index_text")})] == 2
    for stage in ("read", "chunk", "embed", "write"):
        assert counted["hybrid_index_stage_seconds_total", frozenset({("stage", stage)})] > 0, stage
    done = frozenset({("kind", "index_file"), ("outcome", "done")})
    assert counted["hybrid_job_seconds_count", done] == 1


def test_a_request_is_a_trace_that_goes_on_from_its_clients(running: Running) -> None:
    [upload] = [
        s
        for s in running.collector.named("POST /v1/collections/{name}/documents")
        if s.parent_span_id.hex() == "00f067aa0ba902b7"
    ]

    assert upload.trace_id.hex() == TRACEPARENT.split("-")[1]
    assert attributes(upload)["http.response.status_code"] == 201


def test_embedding_and_statement_are_spans_of_their_search(running: Running) -> None:
    searches = {span.span_id: span for span in running.collector.named("POST /v1/collections/{name}/search")}
    parts = [*running.collector.named("embedding"), *running.collector.named("statement")]

    assert len(searches) == 5
    assert {part.parent_span_id for part in parts} == searches.keys()
    for part in parts:
        search = searches[part.parent_span_id]
        assert part.trace_id == search.trace_id
        assert (
            search.start_time_unix_nano
            <= part.start_time_unix_nano
            <= part.end_time_unix_nano
            <= search.end_time_unix_nano
        )


def test_a_job_is_a_span_of_the_worker_that_links_to_the_request(running: Running) -> None:
    upload = bytes.fromhex(TRACEPARENT.split("-")[1])
    jobs = [(service, span) for service, span in running.collector.spans if span.name == "job"]
    [(service, job)] = [each for each in jobs if any(link.trace_id == upload for link in each[1].links)]
    stages = [span.name for span in running.collector.named("write") if span.parent_span_id == job.span_id]

    assert service == "hybrid-search-worker"
    assert attributes(job)["job.kind"] == "index_text"
    assert stages == ["write"]


def test_probes_make_no_trace_and_no_span_holds_a_question(running: Running) -> None:
    spans = [span for _, span in running.collector.spans]

    assert not [span.name for span in spans if span.name.endswith(("/livez", "/readyz", "/metrics"))]
    assert "growling bear" not in "".join(map(str, spans))
    assert len(spans) > 10


async def test_both_processes_end_in_good_time_with_their_last_spans_sent(running: Running) -> None:
    assert (await running.client.get("/v1/collections")).status_code == 200
    statuses = await asyncio.wait_for(asyncio.gather(running.api.end(), running.worker.end()), 30)

    assert list(statuses) == [0, 0]
    assert len(running.collector.named("GET /v1/collections")) == 1
