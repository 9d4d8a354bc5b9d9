"""What a piece of work is given to be seen by: metrics and spans together, so that each place names a stage once."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from opentelemetry.trace import Link, Tracer

from service.telemetry.metrics import Metrics
from service.telemetry.traces import NO_TRACING, in_span

SearchStage = Literal["embedding", "statement", "rearrangement", "highlight", "tally"]
SearchRoute = Literal["exact", "hnsw", "phrase", "lexical"]
IndexStage = Literal["read", "chunk", "embed", "write"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Made once per process by whoever opens it; by default seen by nobody."""

    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = NO_TRACING.tracer

    def search_clock(self) -> "SearchClock":
        return SearchClock(self)

    def searched(self, route: SearchRoute, warnings: Iterable[str]) -> None:
        self.metrics.search_routes.labels(route).inc()
        for code in warnings:
            self.metrics.search_warnings.labels(code).inc()

    def read_from_replica(self, outcome: str) -> None:
        """Of a request that a replica did not answer at once."""
        self.metrics.replica_reads.labels(outcome).inc()

    @contextmanager
    def index_stage(self, stage: IndexStage) -> Iterator[None]:
        started = time.perf_counter()
        try:
            with in_span(self.tracer, stage):
                yield
        finally:
            self.metrics.index_stages.labels(stage).inc(time.perf_counter() - started)

    @contextmanager
    def job_attempt(self, kind: str, *, count: int, links: tuple[Link, ...] = ()) -> Iterator[None]:
        """One attempt at jobs that were claimed together."""
        started, outcome = time.perf_counter(), "failed"
        try:
            with in_span(self.tracer, "job", links=links, attributes={"job.kind": kind, "job.count": count}):
                yield
            outcome = "done"
        finally:
            self.metrics.job_attempts.labels(kind, outcome).observe(time.perf_counter() - started)


class SearchClock:
    """Times the stages of one search; what is left over in the end is `rest`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._started = time.perf_counter()
        self._spent: dict[str, float] = {}

    @contextmanager
    def stage(self, stage: SearchStage) -> Iterator[None]:
        started = time.perf_counter()
        try:
            with in_span(self._telemetry.tracer, stage):
                yield
        finally:
            took = time.perf_counter() - started
            self._spent[stage] = self._spent.get(stage, 0.0) + took
            self._telemetry.metrics.search_stages.labels(stage).observe(took)

    def end(self) -> float:
        """The seconds since the beginning."""
        took = time.perf_counter() - self._started
        rest = max(took - sum(self._spent.values()), 0.0)
        self._telemetry.metrics.search_stages.labels("rest").observe(rest)
        self._spent |= {"rest": rest, "total": took}
        return took

    def server_timing(self) -> str:
        """The stages in milliseconds, as the header of that name has them; complete after `end`."""
        return ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in self._spent.items())
