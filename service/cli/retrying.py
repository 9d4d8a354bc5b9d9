"""How long to wait before a request is sent again to a service that is away or busy."""

import datetime as dt
import email.utils
from collections.abc import Mapping
from http import HTTPStatus

import httpx
from tenacity import RetryCallState, wait_random_exponential

BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
PATIENCE = 60.0  # Seconds: a service that answered before is restarting or busy.


class BusyError(Exception):
    """The service asked to come back later."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


_backoff = wait_random_exponential(multiplier=0.25, max=5.0)


def pause(state: RetryCallState) -> float:
    """Seconds to the next attempt: what the service asked for, else a random growing pause."""
    error = state.outcome.exception() if state.outcome else None
    asked = retry_after(error.response.headers) if isinstance(error, BusyError) else None
    return _backoff(state) if asked is None else min(asked, PATIENCE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header in either of its forms, a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        due = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (due - dt.datetime.now(dt.UTC)).total_seconds())
