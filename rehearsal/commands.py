"""Commands of a release, each in a process of its own."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rehearsal.failures import RehearsalError

PATIENCE = 120.0
RAISED = re.compile(r"[\w.]+(?:Error|Exception|Interrupt|Exit)\b")


class EndlessError(RehearsalError):
    """A process that should have ended by itself."""


@dataclass(frozen=True)
class Answer:
    status: int
    output: str
    errors: str
    seconds: float

    @property
    def last_words(self) -> str:
        """What it said last; of a traceback, the exception."""
        lines = [line.strip() for line in (self.errors.strip() or self.output.strip()).splitlines() if line.strip()]
        raised = [line for line in lines if RAISED.match(line)]
        if raised and "Traceback" in self.errors:
            return raised[-1]
        return lines[-1] if lines else f"it ended with status {self.status}, and no word"

    @property
    def refusal(self) -> str | None:
        """The one sentence of a refusal; None for success, and for a traceback."""
        lines = self.errors.strip().splitlines()
        return (
            lines[-1].removeprefix("Error: ")
            if self.status == 1 and lines and lines[-1].startswith("Error: ")
            else None
        )


async def start(
    tree: Path, *words: str, environment: Mapping[str, str], gently: bool = False
) -> asyncio.subprocess.Process:
    """`python WORDS` with the code of `tree`; in a process group of its own, so that Ctrl-C reaches the rehearsal alone.

    `gently` takes the processor's time that others leave: a migrator has a machine of its own.
    """
    return await asyncio.create_subprocess_exec(
        *(("nice", "-n", "10") if gently else ()),
        sys.executable,
        *words,
        cwd=tree,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )


async def finish(process: asyncio.subprocess.Process, *, patience: float = PATIENCE) -> Answer:
    """Its answer, or its end by `kill -9` when patience or the rehearsal ends first; then raises EndlessError."""
    begun = time.monotonic()
    try:
        output, errors = await asyncio.wait_for(process.communicate(), patience)
    except TimeoutError:
        raise EndlessError(f"a command has not ended after {patience:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    status = -signal.SIGKILL if process.returncode is None else process.returncode
    return Answer(status, output.decode(), errors.decode(), time.monotonic() - begun)


async def run(
    tree: Path, *words: str, environment: Mapping[str, str], patience: float = PATIENCE, gently: bool = False
) -> Answer:
    return await finish(await start(tree, *words, environment=environment, gently=gently), patience=patience)
