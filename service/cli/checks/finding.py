"""What `service doctor` says of one thing: how bad, one sentence, and the command that helps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from service.cli.failures import CommandError
from service.domain.errors import ServiceError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    level: Level
    sentence: str
    remedy: str = ""


Report = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one check: `ok` is what it says when nothing else was said."""

    check: str
    report: Report
    said: list[Finding]

    def say(self, level: Level, sentence: str, remedy: str = "") -> None:
        self.said.append(Finding(self.check, level, sentence, remedy))
        self.report(self.said[-1])

    def ok(self, sentence: str) -> None:
        if not self.said:
            self.say("ok", sentence)


@contextmanager
def checking(check: str, report: Report, *, remedy: str = "") -> Iterator[Findings]:
    """What a check raises is its finding, never the end of the others; `remedy` is for what it raises."""
    findings = Findings(check, report, [])
    try:
        yield findings
    except (ServiceError, CommandError) as error:
        findings.say("error", str(error).rstrip("."), remedy)
    except Exception as error:  # noqa: BLE001  a doctor who stumbles over one patient sees the next one
        findings.say("error", f"could not be checked: {type(error).__name__}: {str(error).splitlines()[0]}", remedy)
