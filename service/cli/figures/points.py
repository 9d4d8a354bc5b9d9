"""The filters under which recall and latency are measured, each with the documents that it leaves."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.cli.client import Json
from service.cli.figures.known import Known, Mask
from service.embeddings.base import Matrix, Vector

U = 10_000  # `attributes.u` is drawn from 0 … 9,999, so that `$lt` leaves any share.
SHARES = (0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FAR_SHARES = (0.015, 0.05, 0.1, 0.2, 0.4, 0.5, 0.8)
DECLARED = {
    "u": "integer",
    "year": "integer",
    "num_authors": "integer",
    "primary_cat": "string",
    "created": "string",
    "doi": "string",
    "categories": "string[]",
}

Kind = Literal["none", "single", "conjunctive", "far", "reference"]


@dataclass(frozen=True)
class Condition:
    """One line of a filter of the reference: field, operator and value."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True)
class Given:
    """A filter that came with a question."""

    label: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Point:
    kind: Kind
    label: str
    filter: Json | None
    matches: Mask


@dataclass(frozen=True)
class Filters:
    """Of one collection. What does not depend on the question is made once."""

    known: Known

    def points(self, question: Vector, given: Sequence[Given] = ()) -> Iterator[Point]:
        yield from self.fixed
        yield from (self.far(question, share) for share in FAR_SHARES)
        yield from (self.given(each) for each in given)

    @cached_property
    def fixed(self) -> list[Point]:
        everything = np.ones(len(self.known.documents), np.bool_)
        points = [Point("none", "no filter", None, everything)]
        points += [self.single(share) for share in SHARES]
        return points + [self.conjunctive(share) for share in SHARES]

    def single(self, share: float) -> Point:
        below = round(share * U)
        return Point("single", f"{share:.2%}", {"attributes.u": {"$lt": below}}, self.column("u") < below)

    def conjunctive(self, share: float) -> Point:
        """Three attributes, of which year and category leave about the cube root each, and `u` what is then too much."""
        root, total = share ** (1 / 3), len(self.known.documents)
        year = int(np.quantile(self.column("year"), 1 - root, method="lower"))
        sizes = np.bincount(self.codes, minlength=len(self.categories))
        chosen = self.until(np.argsort(-sizes), root * total)
        both = (self.column("year") >= year) & np.isin(self.codes, chosen)
        left = np.sort(self.column("u")[both])
        wanted = round(share * total)
        below = U if wanted >= len(left) else int(left[wanted])
        filter_ = {
            "attributes.u": {"$lt": below},
            "attributes.year": {"$gte": year},
            "attributes.primary_cat": {"$in": [self.categories[code] for code in chosen]},
        }
        return Point("conjunctive", f"{share:.2%}", filter_, both & (self.column("u") < below))

    def far(self, question: Vector, share: float) -> Point:
        """The categories whose mean vectors are farthest from the question, as many as have this share of the documents."""
        chosen = self.until(np.argsort(self.means @ question), share * len(self.known.documents))
        names = [self.categories[code] for code in chosen]
        return Point("far", f"{share:.2%}", {"attributes.primary_cat": {"$in": names}}, np.isin(self.codes, chosen))

    def given(self, given: Given) -> Point:
        """A filter of the reference in the words of the contract."""
        written: dict[str, dict[str, object]] = {}
        matches = np.ones(len(self.known.documents), np.bool_)
        for condition in given.conditions:
            word, holds = MEANINGS[condition.op]
            written.setdefault(f"attributes.{condition.field}", {})[word] = condition.value
            matches &= holds(self.column(condition.field), condition.value)
        return Point("reference", given.label, written or None, matches)

    def until(self, order: NDArray[np.int64], wanted: float) -> NDArray[np.int64]:
        """The first categories of this order that together have so many documents."""
        sizes = np.bincount(self.codes, minlength=len(self.categories))
        return order[: int(np.searchsorted(np.cumsum(sizes[order]), wanted - 0.5)) + 1]

    def column(self, name: str) -> NDArray[Any]:
        if name not in self.columns:
            values = [document["attributes"].get(name) for document in self.known.documents]
            several = any(isinstance(value, list) for value in values)
            self.columns[name] = (
                np.array([*values, None], object)[:-1] if several or None in values else np.array(values)
            )
        return self.columns[name]

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        return {}

    @cached_property
    def _coded(self) -> tuple[list[str], NDArray[np.int64]]:
        names, codes = np.unique(self.column("primary_cat"), return_inverse=True)
        return [str(name) for name in names], codes

    @property
    def categories(self) -> list[str]:
        return self._coded[0]

    @property
    def codes(self) -> NDArray[np.int64]:
        return self._coded[1]

    @cached_property
    def means(self) -> Matrix:
        """One row a category, of unit length."""
        sums = np.zeros((len(self.categories), self.known.kept.shape[1]), np.float32)
        np.add.at(sums, self.codes, self.known.kept)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)


def present(column: NDArray[Any], wanted: bool) -> Mask:  # noqa: FBT001  an operand
    return np.array([(value is not None) == wanted for value in column], np.bool_)


def contains(column: NDArray[Any], wanted: str) -> Mask:
    return np.array([wanted in value for value in column], np.bool_)


MEANINGS: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "=": ("$eq", operator.eq),
    "<": ("$lt", operator.lt),
    "<=": ("$lte", operator.le),
    ">": ("$gt", operator.gt),
    ">=": ("$gte", operator.ge),
    "not_null": ("$exists", present),
    "contains": ("$contains", contains),
}
