"""Whether one run is slower than another: paired where the same was asked, resampled over rounds and queries, one-sided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLED = 2_000
CONFIDENCE = 0.95
SEED = 0

Rounds = Sequence[Mapping[int, float]]
"""Of each round what was measured, by query."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """New over old, and the bound below which it lies with a chance of only 5 %."""

    ratio: float
    at_least: float
    pairs: int


def paired_ratio(old: Rounds, new: Rounds) -> Ratio | None:
    """Of the typical time of a query: the exponential of the mean of the logarithms, over queries and rounds.

    Rounds are resampled first, of either run for itself, and then queries: those of a round were measured in the same
    moment and are not independent of one another. None where the two have no query in common.
    """
    queries = sorted(set().union(*old) & set().union(*new)) if old and new else []
    if not queries:
        return None
    place = {query: number for number, query in enumerate(queries)}
    before, after = _table(old, place), _table(new, place)
    chance = np.random.default_rng(SEED)
    drawn = np.empty(RESAMPLED)
    for number in range(RESAMPLED):
        chosen = chance.integers(len(queries), size=len(queries))
        one = before[chance.integers(len(before), size=len(before))]
        other = after[chance.integers(len(after), size=len(after))]
        drawn[number] = _apart(one[:, chosen], other[:, chosen])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    return Ratio(float(np.exp(_apart(before, after))), float(np.exp(np.quantile(drawn, 1 - CONFIDENCE))), len(queries))


def rounds_ratio(old: Sequence[float], new: Sequence[float]) -> Ratio | None:
    """Of the medians of figures that a round has one of, such as a throughput."""
    if not old or not new or min(*old, *new) <= 0:
        return None
    chance = np.random.default_rng(SEED)
    one = np.median(chance.choice(old, (RESAMPLED, len(old))), axis=1)
    other = np.median(chance.choice(new, (RESAMPLED, len(new))), axis=1)
    ratio = float(np.median(new) / np.median(old))
    return Ratio(ratio, float(np.quantile(other / one, 1 - CONFIDENCE)), min(len(old), len(new)))


def _table(rounds: Rounds, place: Mapping[int, int]) -> NDArray[np.float64]:
    """Logarithms; a row a round, NaN where a query was not answered in it."""
    table = np.full((len(rounds), len(place)), np.nan)
    for row, each in zip(table, rounds, strict=True):
        for query, value in each.items():
            if query in place:
                row[place[query]] = np.log(value)
    return table


def _apart(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """The mean over queries of what lies between the two runs' means over rounds; NaN where no query is in both."""
    both = _mean(new) - _mean(old)
    both = both[np.isfinite(both)]
    return float(both.mean()) if len(both) else float("nan")


def _mean(table: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(table)
    count = known.sum(axis=0)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.where(count, total / np.maximum(count, 1), np.nan)
