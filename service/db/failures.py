"""Why a version could not be indexed: one value, written with its status.

Release 0.2.0 kept it in `error_code` and `error_message`. This release writes both and reads the new one where there is one.
"""

from collections.abc import Mapping
from typing import Any

from service.domain.documents import DocumentFailure


def failed(code: str, message: str) -> dict[str, object]:
    """What a version that failed says of it."""
    return {
        "status": "failed",
        "failure": {"code": code, "message": message},
        "error_code": code,
        "error_message": message,
    }


def pending() -> dict[str, object]:
    """What a version says that is to be tried again."""
    return {"status": "pending", "failure": None, "error_code": None, "error_message": None}


def read_failure(row: Mapping[str, Any]) -> DocumentFailure | None:
    if (failure := row["failure"]) is not None:
        return DocumentFailure(failure["code"], failure["message"])
    code = row["error_code"]
    return None if code is None else DocumentFailure(code, row["error_message"] or "")
