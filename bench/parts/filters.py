"""Filters that leave more and more of the documents, and a graph that is searched more and more widely."""

from typing import Any

from bench.deck import Asking
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

    The vector is in the request, so that only the index differs.
    """
    count = max(10, int(session.pace.serial * LEFT))
    ways: dict[str, dict[str, Any]] = {f"ef_search {wide}": {"ef_search": wide} for wide in session.pace.ef_search}
    ways |= {"as set up": {}, "exact": {"exact": True}}
    loads = {
        name: Load(Asking("semantic", with_vector=True, params=params), count=count) for name, params in ways.items()
    }
    series = await in_turns(session, loads, rounds=session.pace.rounds)
    return [each.written(session) | {"label": name} for name, each in series.items()]
