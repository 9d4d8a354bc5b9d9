"""A joined table with any number of rows for a document, columns of every type, and random filters on it."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Double, MetaData, Numeric, SmallInteger, Table, Text, Uuid

from service.db.joined import JoinedTable
from tests.api_calls import Json
from tests.filter_oracle import condition

STOCK = Table(
    "search_stock",
    MetaData(),
    Column("collection_id", Uuid),
    Column("document_id", Uuid),
    Column("place", Text),
    Column("few", SmallInteger),
    Column("many", BigInteger),
    Column("price", Numeric),
    Column("weight", Double),
    Column("since", DateTime(timezone=True)),
    Column("marks", ARRAY(Text)),
)
STOCKED = JoinedTable(
    name="stock",
    table=STOCK,
    columns=("place", "few", "many", "price", "weight", "since", "marks"),
    on=lambda document, stock: stock.c.document_id == document.c.id,
)
MOMENTS = ("2020-02-29T12:00:00Z", "2020-02-28T22:00:00-14:00", "1815-06-18T11:35:00Z")
VALUES: Mapping[str, Sequence[Any]] = {
    "place": ("", "a", "A", "é", "it's"),
    "few": (0, 1, -1, 32767, 2**40, 1.0),
    "many": (0, 1, 2**62, -(2**63)),
    "price": (0.1, 0, 1, 20000.5, 1e300),
    "weight": (0.1, 0, 1, -2.5, 1e-7),
    "since": MOMENTS,
    "marks": ([], ["a"], ["a", "b"], ["b", "a"]),
}
STORE = (
    """create table stock (collection_id uuid, document_id uuid, place text, few smallint, many bigint, price numeric,
       weight double precision, since timestamptz, marks text[])""",
    "create view search_stock as select * from stock",
    "grant select on search_stock to hybrid_searcher",
)


class StockOracle:
    """The meaning of a filter on `stock` alone, over the rows that belong to one document."""

    def matches(self, wanted: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
        positive, negative = [], []
        for key, operand in wanted.items():
            if key == "$not":
                negative.append(self.matches(operand, rows))
            elif key == "$or":
                positive.append(any(self.matches(each, rows) for each in operand))
            else:
                column = key.removeprefix("stock.")
                for operator, value in operand.items():
                    opposite = {"$ne": "$eq", "$nin": "$in", "$exists": "$exists"}.get(operator)
                    if opposite is None or value is True:
                        continue
                    found = any(
                        self.holds(row, column, opposite, True if operator == "$exists" else value) for row in rows
                    )
                    negative.append(found)
        asked = [
            (key.removeprefix("stock."), operator, value)
            for key, operand in wanted.items()
            if key[0] != "$"
            for operator, value in operand.items()
            if operator not in {"$ne", "$nin"} and value is not False
        ]
        one_row = not asked or any(all(self.holds(row, *each) for each in asked) for row in rows)
        return one_row and all(positive) and not any(negative)

    def holds(self, row: Mapping[str, Any], column: str, operator: str, value: Any) -> bool:
        kind = "timestamp" if column == "since" else STOCKED.types[column]
        return row[column] is not None and condition(row[column], operator, value, kind)


class StockWorld:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311  repeatable, not secret

    def row(self) -> Json:
        row = {column: self.random.choice((None, *values)) for column, values in VALUES.items()}
        return row | {"few": self.random.choice((None, 0, 1, -1, 32767))}

    def filter(self, depth: int = 2) -> Json:
        chosen: Json = {}
        for column in self.random.sample(sorted(VALUES), self.random.choice((1, 1, 2, 3))):
            chosen[f"stock.{column}"] = self.operations(column)
        if depth and self.random.random() < 0.3:
            chosen["$not"] = self.filter(depth - 1)
        if depth and self.random.random() < 0.3:
            chosen["$or"] = [self.filter(depth - 1), self.filter(depth - 1)]
        return chosen

    def operations(self, column: str) -> Json:
        operators = ["$eq", "$ne", "$in", "$nin", "$exists"]
        operators += ["$contains", "$overlap"] if column == "marks" else ["$lt", "$lte", "$gt", "$gte"]
        return {each: self.operand(each, column) for each in self.random.sample(operators, self.random.choice((1, 2)))}

    def operand(self, operator: str, column: str) -> Any:
        if operator == "$exists":
            return self.random.random() < 0.5
        if operator == "$contains":
            return self.random.choice("abc")
        if operator == "$overlap":
            return self.random.sample("abc", 2)
        if operator in {"$in", "$nin"}:
            return [self.random.choice(VALUES[column]) for _ in range(self.random.randrange(3))]
        return self.random.choice(VALUES[column])
