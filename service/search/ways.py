"""Whether a search without a filter walks the graph or scans its collection: whichever takes less time.

With a filter the statement itself counts what is left, see `db.retrieval.counted`.
"""

from service.db.semantic import Way
from service.domain.documents import Collection
from service.domain.queries import Query, Words

SCANNED_CHUNKS = 2_000  # Up to here a scan is as fast as any graph, 1.3 ms, and it is exact.
# Measured, in microseconds: a chunk that is scanned; a walk, and each vector on its way. docs/decisions/0027-walk-or-scan.md
SCAN, WALK, STEP = 0.5, 700, 13
EF_SEARCH = 100  # Vectors that a walk visits at least, as the role has it.


def way_of(query: Query, words: Words, collection: Collection, *, exact_chunks: int) -> Way:
    """Whoever sets the graph's own knob wants the graph, as far as there is a choice."""
    if query.filter is not None or words.phrases or query.mode == "lexical":
        return "count"
    count, size = collection.chunk_count, max(collection.graph_size, collection.chunk_count)
    if query.limits.exact:
        return "scan"
    if count > exact_chunks:
        return "walk"
    if count <= SCANNED_CHUNKS or not collection.graph_size:
        return "scan"
    if query.limits.ef_search is not None:
        return "walk"
    walk = WALK + STEP * max(EF_SEARCH, query.fusion.window) * size / count
    return "walk" if walk < SCAN * count else "scan"
