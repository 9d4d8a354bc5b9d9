"""JSON is read by the faster of two readers where both say the same, so nobody can tell which of them it was."""

import json

import pytest

from service.api.bodies import parse_json
from service.domain.errors import MalformedError

SAME = [
    '{"n": 12345678901234567890123, "v": [0.25, -1.5e-7]}',
    '{"v": [18446744073709551616, 0.5]}',
    '{"v": [0.5, 36893488147419103232]}',
    "[-9223372036854775808, 18446744073709551615, 9007199254740993]",
    "[1.7976931348623157e308, 5e-324, 0.1, -0.0, 1e400, 1E+5]",
    '{"a": 1, "a": 2, "text": "\\ud800", "deep": [[[{}]]]}',
    '"\\u0000 \\u20ac \u20ac"',
]


@pytest.mark.parametrize("raw", SAME)
def test_numbers_and_texts_are_those_of_the_standard_library(raw: str) -> None:
    found, expected = parse_json(raw.encode()), json.loads(raw)

    assert repr(found) == repr(expected)


@pytest.mark.parametrize("raw", [b"[NaN]", b"[Infinity]", b"\xff", b"{", b"", b"[1,]", b"[" * 100_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_json(raw)
