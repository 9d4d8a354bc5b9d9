"""Every request of a rehearsal, and what its phases looked like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Record:
    """`seconds` from when it was due, not from when it was sent; `failure` is what a client would complain of."""

    phase: str
    kind: str
    release: str
    seconds: float
    failure: str | None = None


@dataclass(frozen=True)
class Phase:
    """What clients met during one phase; the percentiles are of searches, in seconds."""

    name: str
    seconds: float
    requests: int
    failed: int
    searches: int
    p50: float
    p99: float


@dataclass
class Records:
    """`phase` names what happens now; a request belongs to the phase in which it was due."""

    phase: str = "before"
    all: list[Record] = field(default_factory=list)
    began: list[tuple[str, float]] = field(default_factory=list)

    def enter(self, phase: str, now: float) -> None:
        self.phase = phase
        self.began.append((phase, now))

    def failures(self) -> list[Record]:
        return [record for record in self.all if record.failure]

    def phases(self, end: float) -> list[Phase]:
        """In the order in which they began; one that came twice is one."""
        lengths: dict[str, float] = {}
        for (name, begin), (_, until) in zip(self.began, [*self.began[1:], ("", end)], strict=True):
            lengths[name] = lengths.get(name, 0.0) + until - begin
        return [summarise(name, seconds, self.all) for name, seconds in lengths.items()]


def summarise(name: str, seconds: float, records: Sequence[Record]) -> Phase:
    mine = [record for record in records if record.phase == name]
    times = sorted(record.seconds for record in mine if record.kind.startswith(SEARCH))
    failed = sum(record.failure is not None for record in mine)
    return Phase(name, seconds, len(mine), failed, len(times), percentile(times, 0.5), percentile(times, 0.99))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed; not a number when there is none."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan
