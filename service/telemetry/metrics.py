"""What is counted, in one registry for each process. A label is a word of ours: never a tenant, a path or a text.

`docs/reference/metrics.md` lists them all; a test compares.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.domain.errors import UnavailableError

REQUEST_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
)  # `?wait=` ends at 60.
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RECALL_BUCKETS = (0.5, 0.8, 0.9, 0.95, 0.99, 1)
JOB_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800)

disable_created_metrics()  # type: ignore[no-untyped-call]  # A series more for each counter and histogram, which nobody reads.


class Metrics:
    """The metrics of one process; making one and forgetting it costs nothing else anything."""

    def __init__(self) -> None:
        registry: Final = CollectorRegistry()
        self.registry = registry
        ProcessCollector(registry=registry)
        self.http_requests = Histogram(
            "hybrid_http_request_seconds",
            "HTTP requests from the first byte read to the last one written.",
            ["method", "route", "status"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.search_stages = Histogram(
            "hybrid_search_stage_seconds",
            "Where searches spend their time.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.search_routes = Counter(
            "hybrid_search_routes", "Searches by how the statement found candidates.", ["route"], registry=registry
        )
        self.search_warnings = Counter(
            "hybrid_search_warnings", "Answers that admit something.", ["code"], registry=registry
        )
        self.search_recall = Histogram(
            "search_recall_at_10",
            "Of the first ten hits of an exact search, the share that was served.",
            ["route", "selectivity"],
            buckets=RECALL_BUCKETS,
            registry=registry,
        )
        self.recall_samples = Counter(
            "hybrid_search_recall_samples",
            "Searches that were chosen to be run again exactly, by what came of it.",
            ["outcome"],
            registry=registry,
        )
        self.replica_reads = Counter(
            "hybrid_replica_reads",
            "Requests that the replica answered after a wait, or why the primary answered instead.",
            ["outcome"],
            registry=registry,
        )
        self.job_attempts = Histogram(
            "hybrid_job_seconds",
            "Attempts at jobs; those claimed together count as one.",
            ["kind", "outcome"],
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self.documents = Counter(
            "hybrid_indexed_documents",
            "Versions that were finished, by how they ended.",
            ["outcome"],
            registry=registry,
        )
        self.chunks = Counter("hybrid_indexed_chunks", "Chunks made searchable.", ["kind"], registry=registry)
        self.index_stages = Counter(
            "hybrid_index_stage_seconds", "Time spent indexing, by stage.", ["stage"], registry=registry
        )

        self._search_stages: dict[str, Histogram] = {}

    def search_stage(self, stage: str) -> Histogram:
        """What `labels` finds, found once: every search asks for three."""
        if (series := self._search_stages.get(stage)) is None:
            series = self._search_stages[stage] = self.search_stages.labels(stage)
        return series

    def exposed(self, accept: str) -> tuple[bytes, str]:
        return exposed(accept, self.registry)


class QueueMetrics:
    """Of the queue, which belongs to no process: only those that answer for it register these."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry: Final = registry
        self.jobs = Gauge("hybrid_jobs", "Jobs in the queue.", ["kind", "state"], registry=registry)
        self.oldest = Gauge(
            "hybrid_jobs_oldest_seconds",
            "For how long the oldest queued job has been due.",
            ["kind"],
            registry=registry,
        )
        self.readable = Gauge(
            "hybrid_jobs_readable", "1 if the queue could be read for this answer, else 0.", registry=registry
        )


def exposed(accept: str, *collected: Collector) -> tuple[bytes, str]:
    """The text of one scrape and its content type: Prometheus' own, or OpenMetrics where it is asked for."""
    encode, content_type = choose_encoder(accept)
    scrape = CollectorRegistry()
    for each in collected:
        scrape.register(each)
    return encode(scrape), content_type


class PortTakenError(UnavailableError):
    """WORKER_METRICS_PORT cannot be listened on."""


@contextmanager
def listening(metrics: Metrics, *, host: str, port: int | None) -> Iterator[int | None]:
    """Answers every GET with the metrics, in a thread of its own; without a port, nothing. Raises PortTakenError."""
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise PortTakenError(f"WORKER_METRICS_PORT: {host}:{port} cannot be listened on: {error.strerror}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
