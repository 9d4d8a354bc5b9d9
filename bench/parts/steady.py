"""Open loops: the knee, and how even the answers are at 80 % of it."""

from typing import Any

from bench.knee import DEFINITION, find_knee
from bench.measured import Measured, measure_sent
from bench.series import slim
from bench.session import Load, Session

SHARE = 0.8
FIRST = 0.35  # Of what a closed loop with the most clients got: light for sure.
GOAL = 8.0
TURNS = 3  # At 80 %, of which the median counts: p99.9 of one turn is a handful of requests.


async def steady(session: Session, *, hot: bool, closed_per_second: float) -> dict[str, Any]:
    pace = session.pace
    await session.warm(Load().asking)

    async def probe(rate: float) -> Measured:
        measured, _ = await session.run(Load(hot=hot, rate=rate, seconds=pace.step))
        return measured

    knee = await find_knee(probe, first=closed_per_second * FIRST)
    turns, everything = [], []
    for _ in range(TURNS):
        measured, sent = await session.run(Load(hot=hot, rate=knee.rate * SHARE, seconds=pace.steady / TURNS))
        turns.append(measured)
        everything += sent
    ratios = sorted(each.latency["p999"] / each.latency["p50"] for each in turns if each.latency)
    together = measure_sent(everything).written()
    return {
        "embedding": "cached" if hot else "cold",
        "definition": DEFINITION,
        "knee": round(knee.rate, 2),
        "steps": [{**step.written(), "histogram": None} for step in knee.steps],
        "rate": round(knee.rate * SHARE, 2),
        "p999_over_p50": ratios[len(ratios) // 2] if ratios else None,
        "each": [round(ratio, 2) for ratio in ratios],
        "goal": GOAL,
        "failures": together["failures"],
        "latency": together["latency"],
        "histogram": together["histogram"],
        "turns": [slim(each) for each in turns],
        **session.quality.assess(everything, "hybrid"),
    }
