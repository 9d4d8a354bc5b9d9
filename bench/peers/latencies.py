"""Of one round of one side: how long, how fast, and what it found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.peers.http_client import closed_loop
from bench.peers.library import Timed
from bench.peers.sides import HybridServer, VectorServer, first_answers


@dataclass(frozen=True, slots=True)
class Round:
    seconds: Sequence[float]
    rate: float
    cpu: float  # Of the client, a share of one core.
    found: dict[int, list[str]] = field(default_factory=dict)

    def percentile(self, percent: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.seconds, percent)) * 1e3

    @property
    def p50(self) -> float:
        return self.percentile(50)


async def over_http(
    side: VectorServer | HybridServer,
    requests: Sequence[bytes],
    *,
    concurrency: int = 1,
    seconds: float | None = None,
) -> Round:
    """`requests[i]` is of query i. Answers are read when the clock has stopped."""
    load = await closed_loop(side.origin, requests, concurrency=concurrency, seconds=seconds)
    found = {number: side.found(body) for number, body in first_answers(load).items()}
    return Round([answer.seconds for answer in load.answers], load.rate, load.cpu, found)


def in_process(timed: Timed) -> Round:
    return Round(timed.seconds, len(timed.seconds) / sum(timed.seconds), 0.0, dict(enumerate(map(list, timed.found))))
