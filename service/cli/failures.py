"""What can go wrong outside the service, each as one sentence that a command prints instead of a traceback."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx


class CommandError(Exception):
    """A command cannot go on; `str(error)` is the sentence for its user."""

    exit_code = 1


class NoAnswerError(CommandError):
    """Nothing answers at the address, or it stopped answering."""


class UnclearError(CommandError):
    """The command line leaves open what is meant."""

    exit_code = 2


class NotThereError(CommandError):
    """The document that was asked for does not exist."""

    exit_code = 3


class ChangedError(CommandError):
    """A file had another length when it was read than when it was measured."""


class ProblemError(CommandError):
    """The service refused a request: its problem+json as a sentence."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Failure:
    """One file, line or document that did not make it."""

    name: str
    code: str
    message: str


def problem_of(response: httpx.Response) -> ProblemError:
    """Read an answer of 400 and above, also one of a proxy that does not speak problem+json."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        message = (
            f"The answer to {response.request.method} {response.request.url.path} was HTTP {response.status_code}."
        )
        return ProblemError(message, status=response.status_code, code=f"http_{response.status_code}")
    return ProblemError(
        problem_sentence(problem),
        status=response.status_code,
        code=str(problem.get("code") or f"http_{response.status_code}"),
    )


def problem_sentence(problem: dict[str, Any]) -> str:
    """Say the detail, else the title, with the fields at fault."""
    sentence = str(problem.get("detail") or problem.get("title") or "The service gave no reason").rstrip(".")
    fields = [f"{fault.get('field')}: {fault.get('message')}" for fault in problem.get("errors") or []]
    faults = "; ".join(fault for fault in fields if fault.rstrip(".") not in sentence)
    if problem.get("status", 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        faults = f"request_id {problem.get('request_id')}"  # What its log is searched for.
    return f"{sentence} ({faults})." if faults else f"{sentence}."
