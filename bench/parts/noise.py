"""A against A: the same load twice in turns. A difference that is no larger than this one says nothing."""

from typing import Any

from bench.series import Series, in_turns
from bench.session import Load, Session

FIGURES = ("p50", "p99", "per_second")


async def noise(session: Session) -> dict[str, Any]:
    """By load, the larger over the smaller median minus 1, and the spread of single rounds about their median."""
    pace = session.pace
    found = {}
    for load in (Load(count=pace.serial), Load(concurrency=pace.concurrency[1], seconds=pace.seconds)):
        both = await in_turns(session, {"A": load, "A again": load}, rounds=pace.rounds)
        found[load.label] = {name: _apart(both["A"], both["A again"], name) for name in FIGURES}
    return found


def _apart(one: Series, other: Series, name: str) -> dict[str, float]:
    first, second = figure(one, name), figure(other, name)
    rounds = [each.per_second if name == "per_second" else each.latency[name] for each in (*one.rounds, *other.rounds)]
    middle = sorted(rounds)[len(rounds) // 2]
    return {
        "a": round(first, 4),
        "again": round(second, 4),
        "apart": round(max(first, second) / min(first, second) - 1, 4) if min(first, second) else 0.0,
        "spread": round((max(rounds) - min(rounds)) / middle, 4) if middle else 0.0,
    }


def figure(series: Series, name: str) -> float:
    return series.per_second if name == "per_second" else series.median(name)
