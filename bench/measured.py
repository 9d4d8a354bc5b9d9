"""From requests to figures: percentiles out of an HdrHistogram, failures by kind, stages, rates."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from bench.wire import OK, TIMEOUT, Done, Sent

MICROSECOND = 1e-6
LONGEST = 600_000_000  # Microseconds.
DIGITS = 3
PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p999": 99.9, "max": 100.0}


def histogram_of(seconds: Iterable[float]) -> HdrHistogram:
    histogram = HdrHistogram(1, LONGEST, DIGITS)
    for each in seconds:
        histogram.record_value(max(1, min(LONGEST, round(each / MICROSECOND))))
    return histogram


def percentiles(histogram: HdrHistogram) -> dict[str, float]:
    """In milliseconds; empty of nothing."""
    if not histogram.get_total_count():
        return {}
    return {name: histogram.get_value_at_percentile(at) / 1000 for name, at in PERCENTILES.items()}


@dataclass(frozen=True, slots=True)
class Measured:
    """One stream. Latency is of answers and of timeouts, which count with their time; refusals are counted apart.

    `per_second` counts the answers that came before the last request was due (closed: before the last one was sent).
    `stages` are medians of what the service said, `late_ms` how long after its time a request left, at the 99th percentile.
    """

    sent: int
    answered: int
    failures: dict[str, int]
    latency: dict[str, float]
    per_second: float
    offered: float
    stages: dict[str, float]
    late_ms: float
    client_share: float
    histogram: str
    cpu: dict[str, float] = field(default_factory=dict)
    cache_hits: float | None = None

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def written(self) -> dict[str, Any]:
        return asdict(self)


def measure(done: Done, *, stream: int = 0, **more: Any) -> Measured:  # noqa: ANN401 - cpu and cache_hits, as they are
    return measure_sent(done.streams[stream], client_share=done.client_share, **more)


def measure_sent(sent: Sequence[Sent], *, client_share: float = 0.0, **more: Any) -> Measured:  # noqa: ANN401
    counted = [each for each in sent if each.outcome in (OK, TIMEOUT)]
    histogram = histogram_of(each.seconds for each in counted)
    answered = [each for each in sent if each.outcome == OK]
    begun = min((each.intended for each in sent), default=0.0)
    span = max((each.intended for each in sent), default=0.0) - begun
    within = sum(each.ended - begun <= span for each in answered)
    late = histogram_of(each.sent - each.intended for each in sent)
    return Measured(
        sent=len(sent),
        answered=len(answered),
        failures=dict(Counter(each.outcome for each in sent if each.outcome != OK)),
        latency=percentiles(histogram),
        per_second=within / span if span else 0.0,
        offered=(len(sent) - 1) / span if span else 0.0,
        stages=stage_medians(answered),
        late_ms=percentiles(late).get("p99", 0.0),
        client_share=client_share,
        histogram=histogram.encode().decode() if counted else "",
        **more,
    )


def stage_medians(answered: Sequence[Sent]) -> dict[str, float]:
    """In milliseconds. A stage that only some requests have is of those."""
    names = dict.fromkeys(name for each in answered for name in each.stages)
    return {
        name: round(statistics.median(each.stages[name] for each in answered if name in each.stages), 4)
        for name in names
    }
