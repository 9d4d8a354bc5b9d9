"""Sides in turn, forwards and backwards, so that a machine that changes its speed changes it for all of them."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

ROUNDS = 5


async def interleaved(sides: Mapping[str, Callable[[], Awaitable[T]]], *, rounds: int = ROUNDS) -> dict[str, list[T]]:
    """What each side gave in each round: A B, B A, A B …"""
    gave: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in reversed(list(sides)) if number % 2 else sides:
            gave[name].append(await sides[name]())
    return gave


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the rounds' own ratios: both sides of a round saw the same machine."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def spread(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest ratio of a round."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return min(ratios), max(ratios)
