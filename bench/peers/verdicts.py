"""A figure, its goal and what came of it; a peer that failed is a row like any other, and fails the run."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "missed", "failed", "no goal"]

COMPARE: Mapping[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le}


@dataclass(frozen=True, slots=True)
class Goal:
    sign: Literal["≥", "≤"]
    bound: float

    def met(self, value: float) -> bool:
        """Not by a value that is no number."""
        return COMPARE[self.sign](value, self.bound)

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """`unequal` says why a ratio must not be quoted although it was measured; then it is not ok whatever its value."""

    what: str
    value: float | None
    measured: str
    goal: Goal | None = None
    unequal: str | None = None
    failed: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        if self.failed or self.value is None:
            return "failed"
        if self.goal is None:
            return "no goal"
        return "ok" if self.goal.met(self.value) and self.unequal is None else "missed"

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "goal": None if self.goal is None else str(self.goal),
            "value": self.value,
            "measured": self.measured,
            "unequal": self.unequal,
            "outcome": self.outcome,
            **self.details,
        }


def failure(what: str, why: object) -> Row:
    return Row(what, None, " ".join(str(why).split()), failed=True)


def exit_code(rows: list[Row]) -> int:
    """1 when a goal is missed, a peer failed, or nothing was measured at all."""
    return int(not rows or any(row.outcome in {"missed", "failed"} for row in rows))
