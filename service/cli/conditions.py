"""What `--filter` takes: the JSON of the contract, or a condition in the words of a shell, `line>=100`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from service.cli.client import Json
from service.cli.failures import UnclearError

COLUMNS = {"external_id", "title", "source", "tags", "published_at", "language"}
LISTS = {"tags"}
OPERATORS = {"=": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
CONDITION = re.compile(r"\s*([^=!<>\s]+)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """`field` in the words of the contract; `value` as it was written, for its type is the collection's to say."""

    field: str
    operator: str
    value: str

    def to_filter(self, declared: Mapping[str, str]) -> Json:
        """Spell it for the service. A list is asked whether it has the value, everything else is compared with it."""
        type_ = "string" if self.field in COLUMNS else declared.get(self.field.removeprefix("attributes."))
        is_list = self.field in LISTS or type_ == "string[]"
        value = typed(self.value, type_="string" if is_list else type_)
        if not is_list:
            return {self.field: {OPERATORS[self.operator]: value}}
        contains = {self.field: {"$contains": value}}
        if self.operator == "=":
            return contains
        if self.operator == "!=":
            return {"$not": contains}
        raise UnclearError(f"{self.field} is a list, which = and != can ask, not {self.operator}.")


def read_condition(written: str) -> Json | Condition:
    """Read one `--filter`; raises UnclearError that says what it could have been."""
    if written.lstrip().startswith("{"):
        try:
            parsed: Json = orjson.loads(written)
        except orjson.JSONDecodeError as error:
            raise UnclearError(f"--filter {written!r} is not JSON: {error}.") from None
        return parsed
    parts = CONDITION.fullmatch(written)
    if parts is None:
        raise UnclearError(
            f"--filter {written!r} is neither a condition (kind=function, line>=100, tags=async) nor the JSON of a filter."
        )
    name, operator, value = parts.groups()
    field = name if name in COLUMNS or name.startswith("attributes.") else f"attributes.{name}"
    return Condition(field, operator, value)


def to_filter(conditions: Iterable[Json | Condition], *, declared: Mapping[str, str]) -> Json | None:
    """All of them must hold; None when there are none. `declared`: attribute name to type, as the collection has it."""
    filters = [each.to_filter(declared) if isinstance(each, Condition) else each for each in conditions]
    if len(filters) > 1:
        return {"$and": filters}
    return filters[0] if filters else None


def typed(written: str, *, type_: str | None) -> Any:  # noqa: ANN401  (any value of JSON)
    """The value as JSON: text where text is kept, else a number, a boolean or null where it reads like one.

    What does not read like its declared type is sent as text, for the service to refuse by name. Quotes make text of
    anything: `year="2020"`.
    """
    try:
        value = orjson.loads(written)
    except orjson.JSONDecodeError:
        return written
    if type_ in {"string", "timestamp"} and not isinstance(value, str):
        return written
    return written if isinstance(value, dict | list) else value
