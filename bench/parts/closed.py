"""Closed loops: so many clients, each of which asks when it has its answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.deck import Asking
from bench.pace import Pace
from bench.series import Series, in_turns, in_turns_of
from bench.session import Load, Session


async def closed(session: Session) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Hybrid, cached and cold, at every concurrency; then the two legs alone. And what can be paired with another run."""
    series = await in_turns(session, hybrid_loads(session.pace), rounds=session.pace.rounds)
    for mode in ("lexical", "semantic"):
        load = Load(Asking(mode), count=session.pace.serial)
        series |= await in_turns(session, {load.label: load}, rounds=session.pace.rounds)
    return [each.written(session) for each in series.values()], pairs(series)


async def beside(sessions: Sequence[Session]) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """The hybrid loads of several services in the same rounds; as many answers."""
    pace = sessions[0].pace
    each = {
        f"{number} {label}": (session, load)
        for label, load in hybrid_loads(pace).items()
        for number, session in enumerate(sessions)
    }
    series = await in_turns_of(each, rounds=pace.rounds)
    answers = []
    for number, session in enumerate(sessions):
        mine = {one.load.label: one for name, one in series.items() if name.startswith(f"{number} ")}
        answers.append(([one.written(session) for one in mine.values()], pairs(mine)))
    return answers


def pairs(series: Mapping[str, Series]) -> dict[str, Any]:
    return {label: each.paired() for label, each in series.items() if each.load.concurrency == 1}


def hybrid_loads(pace: Pace) -> dict[str, Load]:
    loads = {}
    for concurrency in pace.concurrency:
        for hot in (True, False):
            alone = concurrency == 1
            load = Load(
                hot=hot,
                concurrency=concurrency,
                count=pace.serial if alone else None,
                seconds=0.0 if alone else pace.seconds,
            )
            loads[load.label] = load
    return loads
