"""What a piece of work is given to be seen by: metrics and spans together, so that each place names a stage once."""

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
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


class StageTimer:
    """Times what is inside of it, in a span of its own where spans are sent. A class: a generator takes twice as long."""

    __slots__ = ("_clock", "_span", "_stage", "_started")

    def __init__(self, clock: "SearchClock", stage: SearchStage, span: AbstractContextManager[object]) -> None:
        self._clock, self._stage, self._span = clock, stage, span

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            self._clock.spend(self._stage, time.perf_counter() - self._started)


class SearchClock:
    """Times the stages of one search; what is left over in the end is `rest`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._started = time.perf_counter()
        self._spent: dict[str, float] = {}

    def stage(self, stage: SearchStage) -> StageTimer:
        return StageTimer(self, stage, in_span(self._telemetry.tracer, stage))

    def spend(self, stage: str, seconds: float) -> None:
        self._spent[stage] = self._spent.get(stage, 0.0) + seconds
        self._telemetry.metrics.search_stage(stage).observe(seconds)

    def end(self) -> float:
        """The seconds since the beginning."""
        took = time.perf_counter() - self._started
        rest = max(took - sum(self._spent.values()), 0.0)
        self._telemetry.metrics.search_stage("rest").observe(rest)
        self._spent |= {"rest": rest, "total": took}
        return took

    def server_timing(self) -> str:
        """The stages in milliseconds, as the header of that name has them; complete after `end`."""
        return ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in self._spent.items())
