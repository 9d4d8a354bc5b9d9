"""How much a service can be offered before a queue grows: a ramp of constant rates, then halving what is left between."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench.failures import BenchError
from bench.measured import Measured

IN_TIME = 0.95  # Of what was offered, answered before the step was over.
SLOWER = 10.0  # The p95 over the p50 of the lightest step.
GROWTH = 1.3
HALVINGS = 3
STEPS = 16

DEFINITION = (
    "the highest constant rate at which a step ends without a failure, with 95 % of what was offered answered before "
    "the step is over, and a p95 (from when each request was due) of at most 10 times the p50 of the lightest step"
)


@dataclass(frozen=True, slots=True)
class Step:
    rate: float
    measured: Measured
    kept_up: bool

    def written(self) -> dict[str, Any]:
        return {"rate": self.rate, "kept_up": self.kept_up} | self.measured.written()


@dataclass(frozen=True, slots=True)
class Knee:
    """`rate` is the knee in requests a second; the steps are in the order in which they were tried."""

    rate: float
    steps: list[Step]


Probe = Callable[[float], Awaitable[Measured]]


def keeps_up(measured: Measured, base_p50: float) -> bool:
    """`base_p50` in milliseconds, of the lightest step."""
    answered_in_time = measured.per_second >= IN_TIME * measured.offered
    return not measured.failed and answered_in_time and measured.latency.get("p95", 0.0) <= SLOWER * base_p50


async def find_knee(probe: Probe, *, first: float, halvings: int = HALVINGS) -> Knee:
    """Raises BenchError when the service cannot keep up with `first`. What fails is tried twice: once may be the machine."""
    steps: list[Step] = []
    base_p50 = 0.0

    async def attempt(rate: float) -> bool:
        nonlocal base_p50
        for _ in range(2):
            measured = await probe(rate)
            base_p50 = base_p50 or measured.latency.get("p50", 0.0)
            steps.append(Step(rate, measured, keeps_up(measured, base_p50)))
            if steps[-1].kept_up:
                return True
        return False

    if not await attempt(first):
        raise BenchError(f"The service does not keep up with {first:.0f} requests a second, the lightest step.")
    low, high = first, None
    for _ in range(STEPS):
        if await attempt(low * GROWTH):
            low *= GROWTH
        else:
            high = low * GROWTH
            break
    for _ in range(halvings if high is not None else 0):
        middle = (low + (high or low)) / 2
        if await attempt(middle):
            low = middle
        else:
            high = middle
    return Knee(low, steps)
