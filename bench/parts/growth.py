"""The same questions with more and more documents."""

from typing import Any

from bench.deck import Asking
from bench.series import in_turns
from bench.session import Load, Session

MODES = ("hybrid", "semantic", "lexical")


async def stage(session: Session, size: int) -> list[dict[str, Any]]:
    """One client, embeddings cached, half whole titles, half three words, once so many documents are there."""
    loads = {mode: Load(Asking(mode), count=max(10, session.pace.serial // 2)) for mode in MODES}
    here = session.at_size(size)
    series = await in_turns(here, loads, rounds=session.pace.rounds)
    return [{"documents": size} | each.written(here) for each in series.values()]
