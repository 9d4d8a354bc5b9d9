"""What a run has found, as a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.failures import BenchError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Result:
    """`found` is what the file holds, as JSON has it."""

    found: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.found["name"])

    def loads(self) -> list[dict[str, Any]]:
        loads: list[dict[str, Any]] = self.found["loads"]
        return loads

    def load(self, label: str) -> dict[str, Any] | None:
        return next((load for load in self.loads() if load["label"] == label), None)


def write_result(found: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_bytes(
        orjson.dumps({"format": FORMAT} | found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    )
    unfinished.replace(file)


BULKY = frozenset({"histogram", "paired", "rounds", "turns", "plan"})


def slim(found: Any) -> Any:  # noqa: ANN401 - any JSON
    """What tables and pictures need: small enough to be committed, and not enough to be compared with."""
    if isinstance(found, dict):
        return {name: slim(value) for name, value in found.items() if name not in BULKY}
    return [slim(each) for each in found] if isinstance(found, list) else found


def read_result(file: Path) -> Result:
    try:
        found = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BenchError(f"{file} cannot be read: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BenchError(f"{file} is no result of this benchmark's format {FORMAT}.")
    return Result(found)
