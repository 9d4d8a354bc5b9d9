"""What passes between a run and its load generator, which is a process of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["closed", "open"]
OK = "ok"
TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one deck from card `start` on, over and over.

    `closed`: `concurrency` clients, each sends when its last request is answered, until `seconds` are over or `count`
    requests were sent. `open`: `rate` a second whatever comes back, for `seconds`.
    """

    deck: str
    kind: Kind = "closed"
    start: int = 0
    concurrency: int = 1
    rate: float = 0.0
    seconds: float = 0.0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Streams that run at the same time."""

    streams: Sequence[Stream]
    timeout: float = 10.0


@dataclass(slots=True)
class Sent:
    """One request: seconds since the start of the job. `intended` is when it was due, whenever it could be sent."""

    label: str
    card: int
    query: int
    intended: float
    sent: float
    ended: float
    outcome: str
    hits: list[str] | None = None
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended - self.intended


@dataclass(frozen=True, slots=True)
class Done:
    """All that was sent, by stream, and what the generator itself took."""

    streams: Sequence[Sequence[Sent]]
    seconds: float
    cpu_seconds: float

    @property
    def client_share(self) -> float:
        """Of one core, which is all that one event loop can have."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0


def job_of(written: Mapping[str, Any]) -> Job:
    return Job([Stream(**stream) for stream in written["streams"]], written["timeout"])


def done_of(written: Mapping[str, Any]) -> Done:
    streams = [[Sent(*sent) for sent in stream] for stream in written["streams"]]
    return Done(streams, written["seconds"], written["cpu_seconds"])
