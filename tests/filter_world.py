"""Documents that try to trip a filter, and filters that try to trip over them; all from one seed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from tests.filter_oracle import COLUMN_TYPES, TIMES

DECLARED: Mapping[str, str] = {
    "year": "integer",
    "level": "number",
    "name": "string",
    "ok": "boolean",
    "when": "timestamp",
    "kinds": "string[]",
    "nest.n": "integer",
    "nest.at": "timestamp",
}
KEYS = ("a", "0", "it's", 'q"uote', "ключ", "$dollar", "$1", "sp ace", "%s", "back\\slash", "🙂", "{}", "a,b", "NULL")
PATHS: tuple[str, ...] = (*DECLARED, *KEYS, "nest", "nest.0", "nest.x", "nest.x.y", "a.0", "a.a", "kinds.0", "year.n")
STRINGS: tuple[str, ...] = (
    "",
    "a",
    "A",
    "b",
    "ab",
    "é",
    "z",
    "\ud7ff",
    "\uffff",
    "🙂",
    "\U0010ffff",
    "\U0010ffffz",
    "null",
    "true",
    "2020",
)
STRINGS += (
    "it's",
    'q"uote',
    "back\\slash",
    "'; drop table documents; --",
    "%",
    "%s",
    "$1",
    "$eq",
    ":f0",
    "{a,b}",
    "a,b",
)
NUMBERS: tuple[str, ...] = (
    "0",
    "-0.0",
    "1",
    "-1",
    "2020",
    "2020.0",
    "2.02e3",
    "2020.5",
    "2021",
    "0.1",
    "1e-7",
    "1e300",
    "-1e300",
)
NUMBERS += ("9007199254740993", "9223372036854775807", "-9223372036854775808", "5e-324")
STORED_ONLY: tuple[str, ...] = (
    "1e400",
    "-1e400",
    "-1e500",
    "1e-400",
    "12345678901234567890123",
    "2020.00000000000000000001",
)
NESTED: tuple[str, ...] = (
    "[]",
    "[null]",
    '["a"]',
    '["a", "b"]',
    '["b", "a"]',
    '["a", "a"]',
    "[2020]",
    '[2020.0, "a"]',
    '[["a"]]',
    "[[]]",
)
NESTED += ("[true]", '["2020"]', '[{"a": 1}]', '[{"a": 1, "b": 2}]', "{}", '{"a": 1}', '{"a": 1.0, "b": null}')
NESTED += ('{"$eq": 1}', '{"0": "a"}', '{"b": ["a"]}', '{"a": {"a": "a"}}', "[1, [2, [3, {}]]]")
TEXTS: tuple[str, ...] = (
    "null",
    "true",
    "false",
    *NUMBERS,
    *NESTED,
    *(json.dumps(each) for each in (*STRINGS, *TIMES)),
)
TAGS = ("a", "b", "c", "é", "it's", 'q"uote', "{}", "a,b", "NULL", "", "🙂", "back\\slash")
MOMENTS = tuple(text for text, moment in TIMES.items() if moment)


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311  repeatable, not secret
        self.left = 0
        self.free_ids = list(STRINGS)  # An external_id is unique.

    # Documents: JSON as text, because Python's own numbers are smaller than those that can be stored.

    def document(self) -> dict[str, Any]:
        """As it is stored; `attributes` and `published_at` as text."""
        return {
            "external_id": self.free_ids.pop() if self.free_ids and self.random.random() < 0.3 else None,
            "title": self.maybe(STRINGS),
            "source": self.maybe(STRINGS),
            "language": self.maybe(("english", "german", "English")),
            "tags": self.some(TAGS),
            "published_at": self.maybe(MOMENTS),
            "attributes": self.attributes(),
        }

    def attributes(self) -> str:
        members = {key: self.stored(key) for key in (*DECLARED, *KEYS) if "." not in key and self.random.random() < 0.5}
        if self.random.random() < 0.7:
            inner = {key: self.stored(f"nest.{key}") for key in ("n", "at", "0", "x") if self.random.random() < 0.6}
            if self.random.random() < 0.3:
                inner["x"] = as_object({"y": self.stored("nest.x.y")})
            members["nest"] = as_object(inner) if self.random.random() < 0.9 else f"[{as_object(inner)}]"
        return as_object(members)

    def stored(self, path: str) -> str:
        """Mostly what the declaration says, often anything."""
        if self.random.random() < 0.3:
            return self.random.choice((*TEXTS, *STORED_ONLY))
        return self.random.choice(TEXTS) if path not in DECLARED else json.dumps(self.value(DECLARED[path], TIMES))

    def maybe(self, values: Sequence[str]) -> str | None:
        return self.random.choice(values) if self.random.random() < 0.8 else None

    def some(self, values: Sequence[str]) -> list[str]:
        return [self.random.choice(values) for _ in range(self.random.randrange(4))]

    # Filters

    def filter(self) -> dict[str, Any]:
        self.left = 12  # Members, each of up to three nodes: under the limit of 50.
        if self.random.random() < 0.6:
            return dict([self.comparison()])
        return self.conjunction(self.random.choice((1, 2, 4)))

    def conjunction(self, depth: int) -> dict[str, Any]:
        return dict(self.member(depth) for _ in range(self.random.choice((1, 1, 1, 2, 3))))

    def member(self, depth: int) -> tuple[str, Any]:
        self.left -= 1
        if depth == 1 or self.left < 0 or self.random.random() < 0.6:
            return self.comparison()
        word = self.random.choice(("$and", "$or", "$not"))
        if word == "$not":
            return word, self.conjunction(depth - 1)
        return word, [self.conjunction(depth - 1) for _ in range(self.random.randint(1, 3))]

    def comparison(self) -> tuple[str, Any]:
        if self.random.random() < 0.3:
            key = self.random.choice(("external_id", "title", "source", "language", "tags", "published_at"))
            return key, self.operations(COLUMN_TYPES.get(key, "string"))
        path = self.random.choice(PATHS)
        return f"attributes.{path}", self.operations(DECLARED.get(path))

    def operations(self, kind: str | None) -> Any:
        operators = ["$eq", "$ne", "$in", "$nin", "$exists"]
        if kind not in {"boolean", "string[]"}:
            operators += ["$lt", "$lte", "$gt", "$gte"]
        if kind in {None, "string[]"}:
            operators += ["$contains", "$overlap"]
        chosen = {
            each: self.operand(each, kind) for each in self.random.sample(operators, self.random.choice((1, 1, 2)))
        }
        if self.random.random() < 0.1:
            return {"$not": chosen}
        bare = chosen.get("$eq")
        return bare if len(chosen) == 1 and "$eq" in chosen and not isinstance(bare, dict) else chosen

    def operand(self, operator: str, kind: str | None) -> Any:
        if operator == "$exists":
            return self.random.random() < 0.5
        if operator in {"$contains", "$overlap"}:
            kind = "string" if kind else "scalar"
        elif operator in {"$lt", "$lte", "$gt", "$gte"}:
            kind = kind or "ordered"
        if operator in {"$in", "$nin", "$overlap"}:
            return [self.value(kind) for _ in range(self.random.randrange(5))]
        return self.value(kind)

    def value(self, kind: str | None, times: Iterable[str] = MOMENTS) -> Any:
        if kind == "string[]":
            return self.some(TAGS)
        texts = {
            "integer": ("2020", "2020.0", "0", "-1", "2021", "9223372036854775807"),
            "number": NUMBERS,
            "string": [json.dumps(each) for each in (*STRINGS, *TAGS)],
            "boolean": ("true", "false"),
            "timestamp": [json.dumps(each) for each in times],
            "ordered": (*NUMBERS, *map(json.dumps, STRINGS)),
            "scalar": [each for each in TEXTS if each not in NESTED],
            None: TEXTS,
        }
        return json.loads(self.random.choice(texts[kind]))


def as_object(members: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in members.items()) + "}"
