"""Reading bodies: counted while they stream, JSON taken strictly."""

import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel

from service.domain.errors import MalformedError, TooLargeError, UnsupportedMediaTypeError

WIDE = 2.0**63  # The whole numbers that orjson reads as floats are beyond it.
JSON_LIMIT = 64 * 1024 * 1024  # A text of 10 MB can be 60 MB as JSON, every character an escape.
SMALL_LIMIT = 1024 * 1024
SEARCH_LIMIT = 16 * 1024 * 1024  # A hundred vectors of 4,096 numbers, or a filter with a thousand long values.

Model = TypeVar("Model", bound=BaseModel)


def media_type(request: Request) -> str | None:
    """Lower case and without parameters; None when the client says nothing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() or None


async def counted(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. Raises TooLargeError before the first byte if the client says so, else at the limit."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaTypeError("send the body without a Content-Encoding")
    message = f"the body has more than {limit} bytes"
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLargeError(message)
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLargeError(message)
        yield part


async def read_bytes(request: Request, limit: int) -> bytes:
    return b"".join([part async for part in counted(request, limit)])


def parse_json(raw: bytes) -> Any:  # noqa: ANN401  that is what JSON is
    """Raises MalformedError for what is not UTF-8 JSON (NaN and Infinity are not).

    Four times as fast where orjson says the same: it rounds whole numbers of more than 64 bits, and refuses more.
    """
    with suppress(orjson.JSONDecodeError):
        parsed = orjson.loads(raw)
        if not is_wide(parsed):
            return parsed
    try:
        return json.loads(raw.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedError("this is not JSON in UTF-8") from error


def is_wide(value: object) -> bool:
    """Whether some number in it may have been a whole one that was rounded."""
    if isinstance(value, float):
        return abs(value) >= WIDE
    if isinstance(value, dict):
        return any(map(is_wide, value.values()))
    if isinstance(value, list):
        floats = set(map(type, value)) == {float}  # A vector, most likely.
        return max(map(abs, value)) >= WIDE if floats else any(map(is_wide, value))
    return False


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


async def read_json(
    request: Request, model: type[Model], *, limit: int = SMALL_LIMIT, types: tuple[str, ...] = ("application/json",)
) -> Model:
    """The body as a request model. A wrong Content-Type is refused, a missing one taken for JSON."""
    if (declared := media_type(request)) is not None and declared not in types:
        raise UnsupportedMediaTypeError(f"this route takes {' or '.join(types)}")
    return model.model_validate(parse_json(await read_bytes(request, limit)))
