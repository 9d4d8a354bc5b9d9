"""Equal recall: each side's own knob is turned until neither finds less than the other, and speed is compared there."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.peers.failures import PeerError

LADDER = (20, 40, 60, 80, 100, 120, 140, 170, 200, 240, 300, 400)  # Values of `ef`, cheapest first.
FLOOR = 0.98  # Recall below it is nothing that anybody would serve.
APART = 0.002  # So much less recall is called equal.


@dataclass(frozen=True, slots=True)
class Point:
    effort: int
    recall: float


Measured = Callable[[int], Awaitable[float]]


async def points_of(recall_at: Measured, ladder: Sequence[int] = LADDER) -> list[Point]:
    return [Point(effort, await recall_at(effort)) for effort in ladder]


def equal_recall(ours: Sequence[Point], theirs: Sequence[Point], *, floor: float = FLOOR) -> tuple[Point, Point]:
    """The cheapest points of two ladders that reach the floor and are equal: whichever finds less is turned up.

    Where a ladder ends before that, the other side stays at its cheapest point: unequal, which the figure then says.
    Raises PeerError where a side does not reach the floor at all.
    """
    left, right = _from(ours, floor), _from(theirs, floor)
    if not left or not right:
        best = [max((point.recall for point in points), default=0.0) for points in (ours, theirs)]
        raise PeerError(f"the recall of {floor} is not reached: ours {best[0]:.4f}, theirs {best[1]:.4f}")
    while not equal(left[0].recall, right[0].recall):
        lower = left if left[0].recall < right[0].recall else right
        if len(lower) == 1:
            break
        lower.pop(0)
    return left[0], right[0]


def _from(points: Sequence[Point], floor: float) -> list[Point]:
    reached = [place for place, point in enumerate(points) if point.recall >= floor]
    return list(points[reached[0] :]) if reached else []


def equal(one: float, other: float) -> bool:
    """Of the recalls in the measured rounds themselves: neither is below the other by more than counts."""
    return abs(one - other) <= APART
