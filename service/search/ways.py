"""Whether a search walks the graph or scans: whichever takes less time.

Without a filter that is known before. With one, the statement itself counts what is left (`db.retrieval.counted`), which is
most of its time where that is much; so what it came to is remembered, and the next search with the same filter walks first.
"""

import time
from collections import OrderedDict

from service.db.filter_shapes import Lowered
from service.db.filters import index_key
from service.db.roles import EF_SEARCH
from service.db.semantic import KEPT, Way
from service.domain.documents import Collection
from service.domain.queries import Query, Words

SCANNED_CHUNKS = 2_000  # Up to here a scan is as fast as any graph, 1.3 ms, and it is exact.
TINY_CHUNKS = 2_000  # What leaves at most so many is scored whole by its words: cheaper than choosing candidates.
# Measured, in microseconds: a chunk that is scanned; a walk, and each vector on its way. docs/decisions/0027-walk-or-scan.md
SCAN, WALK, STEP = 0.5, 700, 10
# With a filter, how often a walk's steps take the time of counting a chunk that it leaves, and of counting and scanning it in a
# statement with nothing else: where it is one test, and where it is several, of which each leaves more than is left in the end.
# docs/decisions/0020-counting-filters.md
STEP_OVER_COUNT, STEP_OVER_SCAN, STEP_OVER_TESTS = 4, 8, 2
FURTHER = 2  # How many times further than evenly spread documents would need a walk goes.
REMEMBERED_SECONDS, REMEMBERED_MOST = 600.0, 10_000


def way_of(
    query: Query,
    words: Words,
    collection: Collection,
    *,
    exact_chunks: int,
    left: int | None = None,
    one_test: bool = True,
) -> Way:
    """Whoever sets the graph's own knob wants the graph, as far as there is a choice.

    `left` is what `Left` remembers, `one_test` whether the filter is no more than that.
    """
    if words.phrases:
        return "count"
    if query.filter is not None:
        return filtered_way(query, collection, exact_chunks=exact_chunks, left=left or 0, one_test=one_test)
    if query.mode == "lexical":
        return "count"
    return whole_way(query, collection, exact_chunks=exact_chunks)


def whole_way(query: Query, collection: Collection, *, exact_chunks: int) -> Way:
    """Of all that a collection has."""
    count = collection.chunk_count
    if query.limits.exact:
        return "scan"
    if count > exact_chunks:
        return "walk"
    if count <= SCANNED_CHUNKS or not collection.graph_size:
        return "scan"
    if query.limits.ef_search is not None:
        return "walk"
    walk = WALK + STEP * steps(query, collection) / count
    return "walk" if walk < SCAN * count else "scan"


def filtered_way(query: Query, collection: Collection, *, exact_chunks: int, left: int, one_test: bool) -> Way:
    """To look for `W` of `left` among `size` on a walk takes `W size / left` steps, to count and scan them as many as they are."""
    if query.limits.exact or not left:
        return "count"
    if left <= TINY_CHUNKS and query.mode != "semantic" and query.limits.budget is None:
        # As the first search did: the second shall choose words no other way.
        return "tiny" if query.mode == "lexical" or left <= exact_chunks else "count"
    if query.mode == "lexical":
        return "count"
    visited = max(EF_SEARCH, max(query.fusion.window, KEPT) * vectors(collection) // left)
    scannable = left <= exact_chunks
    step_over_scan = STEP_OVER_SCAN if one_test else STEP_OVER_TESTS
    if collection.graph_size and left > (step_over_scan if scannable else STEP_OVER_COUNT) * visited:
        return "filter"
    return "few" if scannable else "count"


def steps(query: Query, collection: Collection) -> int:
    """A walk to what a search wants of `n` evenly spread chunks visits the `n`th part of so many."""
    return max(EF_SEARCH, query.fusion.window) * vectors(collection)


def vectors(collection: Collection) -> int:
    """In the graph that the collection shares: no fewer than its own, of which Postgres may not know yet."""
    return max(collection.graph_size, collection.chunk_count)


def furthest(query: Query, collection: Collection, *, left: int | None) -> int:
    """How many of the nearest chunks are looked at before a filter counts as far from the question."""
    return FURTHER * steps(query, collection) // (left or 1)


def likenesses(lowered: Lowered | None, words: Words, collection: Collection) -> tuple[int | None, int | None]:
    """Equal for searches of which the filter leaves the same, and for those that test one declared attribute in one way.

    None where nothing depends on how much is left, and where a filter is more than such a test.
    """
    if lowered is None or words.phrases:
        return None, None
    shape, bound = lowered
    key = index_key(lowered)
    same = hash((collection.id, shape, str(bound)))  # Spelled, because some values cannot be hashed.
    return same, hash((collection.id, shape, key)) if key else None


class Left:
    """How many chunks filters left; 0 where they were far from the question, None where nobody has counted.

    Kept for ten minutes. Where it is no longer true a search takes longer, and leaves nothing out for it.
    """

    def __init__(self) -> None:
        self.entries: OrderedDict[int, tuple[int, float]] = OrderedDict()

    def by(self, likeness: int | None) -> int | None:
        if likeness is None:
            return None
        left, until = self.entries.get(likeness, (None, 0.0))
        return left if until > time.monotonic() else None

    def remember(self, likeness: int | None, left: int) -> None:
        if likeness is None:
            return
        self.entries[likeness] = left, time.monotonic() + REMEMBERED_SECONDS
        if len(self.entries) > REMEMBERED_MOST:
            self.entries.popitem(last=False)
