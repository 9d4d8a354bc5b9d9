"""When a filter is slow: a look at its tree, beside what the collection declares and how large it is."""

from collections.abc import Iterable, Iterator, Mapping

from service.domain.documents import Collection
from service.domain.filters import And, Comparison, Field, Filter, Not, Or
from service.domain.hits import SearchWarning

# A document that only reading can decide costs .4 to 1.0 µs (measured from 1,000 to 40,000): from here on 5 ms, where an
# index answers within one. There are at most as many documents as chunks.
SCANNED_CHUNKS = 5_000
SHOWN = 3  # names in one message

ORDERED = frozenset({"$eq", "$in", "$lt", "$lte", "$gt", "$gte"})  # what the index of a declared attribute serves
WHOLE = frozenset({"$eq", "$in", "$contains", "$overlap"})  # what GIN over all attributes serves, declared or not
COLUMNS: Mapping[str, frozenset[str]] = {
    "external_id": frozenset({"$eq", "$in"}),
    "published_at": ORDERED,
    "tags": frozenset({"$contains", "$overlap"}),
}


def unindexed_filter(filter_: Filter | None, collection: Collection) -> SearchWarning | None:
    """Where nothing narrows a large collection down before documents are read for an attribute without an index.

    A declared attribute is never named once its index is there: what still reads them all then, a negation say, leaves most.
    """
    if filter_ is None or collection.chunk_count <= SCANNED_CHUNKS or is_served(filter_, collection.unbuilt):
        return None
    found = list(without_index(filter_, collection.unbuilt))
    ranges = {path_of(field) for field, operator in found if field.type is None and operator in ORDERED}
    others = {path_of(field) for field, _ in found if field.type is None} - ranges
    unbuilt = {path_of(field) for field, _ in found if field.type is not None}
    parts = []
    if ranges:
        parts.append(f"every document is read for {listed(ranges)}; declare it with PATCH on the collection")
    if others:
        parts.append(
            f"every document is read for {listed(others)}, because no index finds what $exists and negations ask of an"
            " attribute; add a condition that narrows"
        )
    if unbuilt:
        parts.append(f"every document is read for {listed(unbuilt)} until its index is built")
    return SearchWarning("unindexed_filter", "; ".join(parts)) if parts else None


def is_served(filter_: Filter, unbuilt: Iterable[str]) -> bool:
    """Whether indexes find what may match: of an AND one member is enough, of an OR all must."""
    match filter_:
        case And(operands):
            return any(is_served(operand, unbuilt) for operand in operands)
        case Or(operands):
            return all(is_served(operand, unbuilt) for operand in operands)
        case Not():
            return False
        case Comparison(field, operator, _):
            return field.table is not None or operator in served_operators(field, unbuilt)


def served_operators(field: Field, unbuilt: Iterable[str]) -> frozenset[str]:
    if not field.keys:
        return COLUMNS.get(field.column, frozenset())
    if field.type in {None, "string[]"}:
        return WHOLE
    return frozenset() if ".".join(field.keys) in unbuilt else ORDERED


def without_index(filter_: Filter, unbuilt: Iterable[str], *, negated: bool = False) -> Iterator[tuple[Field, str]]:
    """The attributes without an index of their own, with what is asked of them; a negated question is `$not`."""
    match filter_:
        case And(operands) | Or(operands):
            for operand in operands:
                yield from without_index(operand, unbuilt, negated=negated)
        case Not(operand):
            yield from without_index(operand, unbuilt, negated=True)
        case Comparison(field, operator, _) if field.keys and field.table is None:
            has_own = field.type is not None and ".".join(field.keys) not in unbuilt
            if not has_own and (negated or operator not in served_operators(field, unbuilt)):
                yield field, "$not" if negated else operator


def path_of(field: Field) -> str:
    return ".".join((field.column, *field.keys))


def listed(names: Iterable[str]) -> str:
    several = sorted(names)
    return ", ".join(several[:SHOWN]) + (f" and {len(several) - SHOWN} more" if len(several) > SHOWN else "")
