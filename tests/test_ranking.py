"""The list that a cursor carries, without a database."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from service.domain.ids import new_id
from service.search.ranking import EXPLAINED, PLAIN, Ranking, fingerprint, read_cursor

OF = fingerprint("a search")


def ranking(hits: list[int]) -> Ranking:
    """Hits with so many chunks each."""
    firsts = [number == 0 for chunks in hits for number in range(chunks)]
    return Ranking(
        b"".join(PLAIN.pack(first, new_id().bytes, -float(n)) for n, first in enumerate(firsts)), explained=False
    )


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(0, 15), st.integers(0, 40))
def test_a_list_is_cut_between_hits(hits: list[int], wanted: int, most: int) -> None:
    whole = ranking(hits)
    cut = whole.cut(most)

    assert whole.end_of(0, hits=wanted) == sum(hits[:wanted])
    kept = [sum(hits[: n + 1]) for n in range(len(hits)) if sum(hits[: n + 1]) <= most]
    assert len(cut) == max(kept, default=0)
    assert whole.chunk_ids()[: len(cut)] == cut.chunk_ids()


def test_a_cursor_brings_the_list_back() -> None:
    whole = ranking([1, 3, 2])
    cursor = whole.cursor(4, of=OF)

    assert cursor is not None
    assert read_cursor(cursor, of=OF) == (whole, 4)
    assert whole.cursor(6, of=OF) is None
    assert [entry.chunk_id for entry in whole.entries(4, 6)] == whole.chunk_ids()[4:]


def test_shares_that_are_not_there_are_none() -> None:
    nan = float("nan")
    packed = EXPLAINED.pack(1, UUID(int=1).bytes, 0.5, 0.0, nan, 0.0, 7.0, 0.25, 0.5, nan, nan)
    (entry,) = Ranking(packed, explained=True).entries()

    assert entry.explanation is not None
    assert entry.explanation.lexical.rank is entry.explanation.lexical.score is None
    assert (entry.explanation.semantic.rank, entry.explanation.semantic.score) == (7, 0.25)
    assert entry.explanation.boost is entry.explanation.rerank is None


def test_every_part_of_a_fingerprint_counts() -> None:
    assert len({fingerprint("a", "b"), fingerprint("ab"), fingerprint("a", "c"), fingerprint("b", "a")}) == 4
