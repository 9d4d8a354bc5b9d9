"""Rounds of schemathesis on a running service, every check on, and what they found."""

import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
ALL_PHASES = "examples,coverage,fuzzing,stateful"


@dataclass(frozen=True, slots=True)
class Findings:
    """`failures` by their title, each with the operations; `story` is what the tool printed."""

    cases: int = 0
    server_errors: int = 0
    failures: dict[str, list[str]] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()
    accepted: frozenset[str] = frozenset()
    story: str = ""

    @classmethod
    def read(cls, report: dict[str, Any], story: str) -> "Findings":
        found = report["failures"]
        trouble = [str(error) for error in report["errors"]]
        if not report["complete"] or report["operations"]["tested"] != report["operations"]["total"]:
            trouble.append(f"not everything was tried: {report['stop_reason']}, {report['operations']}")
        rates = report["valid_rates"].items()
        return cls(
            cases=report["test_cases"]["generated"],
            server_errors=sum(each["count"] for each in found if each["type"] == "ServerError"),
            failures={each["title"]: each["operations"] for each in found},
            trouble=tuple(trouble),
            accepted=frozenset(name for name, phases in rates if any(phase["accepted"] for phase in phases.values())),
            story=story,
        )

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.cases + other.cases,
            self.server_errors + other.server_errors,
            {**self.failures, **other.failures},
            self.trouble + other.trouble,
            self.accepted | other.accepted,
            f"{self.story}\n{other.story}",
        )

    @property
    def is_clean(self) -> bool:
        return not self.failures and not self.trouble

    def __str__(self) -> str:
        others = sum(len(operations) for operations in self.failures.values())
        return f"{self.cases:,} cases, {self.server_errors} server errors, {others} operations that broke their schema"


async def play(url: str, key: str, *, examples: int, seed: int, seconds: float, phases: str = ALL_PHASES) -> Findings:
    """One round, of about so many examples for each operation and phase. Raises TimeoutError."""
    with tempfile.TemporaryDirectory(prefix="schemathesis-") as folder:
        report = Path(folder) / "report.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(CONFIG), "run", f"{url}/openapi.json", "-H", f"Authorization: Bearer {key}"),
            *("--checks", "all", "--phases", phases, "-n", str(examples), "--seed", str(seed), "--no-color"),
            *("--report", "json", "--report-json-path", str(report)),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            story, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        if not report.exists():
            return Findings(trouble=("it ended without a report",), story=story.decode(errors="replace"))
        return Findings.read(json.loads(report.read_text()), story.decode(errors="replace"))
