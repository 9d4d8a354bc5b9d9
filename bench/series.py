"""Loads in turn, round after round: whatever the machine does meanwhile happens to all of them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.measured import Measured, measure_sent
from bench.session import Load, Session
from bench.wire import OK, Sent


@dataclass
class Series:
    """The rounds of one load; `sent` has their requests, in the same order."""

    load: Load
    rounds: list[Measured] = field(default_factory=list)
    sent: list[list[Sent]] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Of a percentile over the rounds, in milliseconds."""
        return statistics.median(each.latency.get(name, 0.0) for each in self.rounds)

    @property
    def per_second(self) -> float:
        return statistics.median(each.per_second for each in self.rounds)

    @property
    def failures(self) -> dict[str, int]:
        together: dict[str, int] = {}
        for each in self.rounds:
            for kind, count in each.failures.items():
                together[kind] = together.get(kind, 0) + count
        return together

    def written(self, session: Session) -> dict[str, Any]:
        """Medians over the rounds; p99.9 and the histogram are of all rounds together, which have enough requests."""
        everything = [sent for each in self.sent for sent in each if sent.query >= 0]
        together = measure_sent(everything)
        load, rounds = self.load, self.rounds
        hits = [each.cache_hits for each in rounds if each.cache_hits is not None]
        cpu = [sum(each.cpu.values()) / max(each.sent, 1) for each in rounds if each.cpu]
        return {
            "label": load.label,
            "mode": load.asking.mode,
            "embedding": "cached" if load.hot else "cold",
            "concurrency": load.concurrency,
            "rate": load.rate,
            "selectivity": load.asking.selectivity,
            "params": dict(load.asking.params),
            "sent": together.sent,
            "failures": self.failures,
            "latency": {name: self.median(name) for name in ("p50", "p95", "p99", "max")}
            | {"p999": together.latency.get("p999")},
            "per_second": self.per_second,
            "cache_hits": statistics.median(hits) if hits else None,
            "stages": together.stages,
            "cpu_ms": round(statistics.median(cpu) * 1000, 3) if cpu else None,
            "cpu_parts_ms": cpu_by_part(rounds),
            "client_share": max(each.client_share for each in rounds),
            "late_ms": max(each.late_ms for each in rounds),
            "histogram": together.histogram,
            "rounds": [slim(each) for each in rounds],
            **session.quality.assess(everything, load.asking.mode, load.asking.selectivity),  # type: ignore[arg-type]
        }

    def paired(self) -> list[list[list[float]]]:
        """Query and milliseconds of every answer, round by round: what `compare` pairs with another run's."""
        return [
            [[each.query, round(each.seconds * 1000, 4)] for each in sent if each.outcome == OK] for sent in self.sent
        ]


def slim(measured: Measured) -> dict[str, Any]:
    written = measured.written()
    del written["histogram"]
    return written


def cpu_by_part(rounds: Sequence[Measured]) -> dict[str, float]:
    """Milliseconds of processor a request."""
    parts = {part for each in rounds for part in each.cpu}
    sent = sum(each.sent for each in rounds) or 1
    return {
        part: round(sum(each.cpu.get(part, 0.0) for each in rounds) / sent * 1000, 3)
        for part in sorted(parts)
        if any(each.cpu.get(part, 0.0) > 0 for each in rounds)
    }


async def in_turns(session: Session, loads: Mapping[str, Load], *, rounds: int) -> dict[str, Series]:
    """Every load once a round, every other round backwards."""
    return await in_turns_of({name: (session, load) for name, load in loads.items()}, rounds=rounds)


async def in_turns_of(each: Mapping[str, tuple[Session, Load]], *, rounds: int) -> dict[str, Series]:
    """The same of several services."""
    series = {name: Series(load) for name, (_, load) in each.items()}
    for session, load in {
        (id(session), repr(load.asking)): (session, load) for session, load in each.values()
    }.values():
        await session.warm(load.asking)
    for number in range(rounds):
        for name in list(each) if number % 2 == 0 else reversed(list(each)):
            session, load = each[name]
            if not load.hot and load.count is not None:
                load = replace(load, first=number * load.count)
            measured, sent = await session.run(load)
            series[name].rounds.append(measured)
            series[name].sent.append(sent)
    return series
