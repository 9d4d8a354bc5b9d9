"""Vectors as clients give them: of any length, kept and compared at unit length."""

import math
from collections.abc import Sequence


def unit(vector: Sequence[float]) -> tuple[float, ...]:
    """The same direction at length 1; scaled first, so that the squares of very small numbers do not vanish."""
    largest = max(map(abs, vector))
    scaled = [number / largest for number in vector]
    length = math.hypot(*scaled)
    return tuple(number / length for number in scaled)
