"""Why a version could not be indexed: one value, written with its status."""

from collections.abc import Mapping
from typing import Any

from service.domain.documents import DocumentFailure


def failed(code: str, message: str) -> dict[str, object]:
    """What a version that failed says of it."""
    return {"status": "failed", "failure": {"code": code, "message": message}}


def pending() -> dict[str, object]:
    """What a version says that is to be tried again."""
    return {"status": "pending", "failure": None}


def read_failure(row: Mapping[str, Any]) -> DocumentFailure | None:
    failure = row["failure"]
    return None if failure is None else DocumentFailure(failure["code"], failure["message"])
