"""Filters that leave more and more of the documents, and a graph that is searched more and more widely."""

from typing import Any

from bench.deck import LIMIT, Asking
from bench.series import in_turns
from bench.session import Load, Session

LEFT = 0.5  # Of the requests of a round of one client: there are many points.


async def selectivity(session: Session) -> list[dict[str, Any]]:
    """Semantic search, whose exact answer under a filter is brute force, and hybrid beside it."""
    count = max(10, int(session.pace.serial * LEFT))
    loads = {
        f"{mode} {share}": Load(Asking(mode, selectivity=share), count=count)
        for share in session.pace.selectivities
        for mode in ("semantic", "hybrid")
    }
    series = await in_turns(session, loads, rounds=session.pace.rounds)
    return [each.written(session) for each in series.values()]


async def recall_curve(session: Session) -> list[dict[str, Any]]:
    """Vector search at several widths of the graph's candidate list, as the service is set up, and exact.

    The vector is in the request, so that only the index differs; and the window is what is asked for, because the usual one of
    200 chunks makes the graph go on whatever its list holds.
    """
    count = max(10, int(session.pace.serial * LEFT))
    ways: dict[str, dict[str, Any]] = {f"ef_search {wide}": {"ef_search": wide} for wide in session.pace.ef_search}
    ways["exact"] = {"exact": True}
    asked = {name: Asking("semantic", with_vector=True, window=LIMIT, params=params) for name, params in ways.items()}
    asked["as it comes"] = Asking("semantic", with_vector=True)
    loads = {name: Load(asking, count=count) for name, asking in asked.items()}
    series = await in_turns(session, loads, rounds=session.pace.rounds)
    return [each.written(session) | {"label": name} for name, each in series.items()]
