"""One process of the stack: started bound to this one, logged to a file, ended within a bounded time."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from service.local.account import Account
from service.local.folder import StateFolder
from service.local.leftovers import MARKER, forget, remember

BOUND = Path(__file__).with_name("bound.py")
REAP_SECONDS = 5.0  # After SIGKILL only a process stuck in the kernel is still there.
HURRIED_SECONDS = 1.0
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What to run, and how to end it: each of `stop_signals` is given `patience` seconds, then SIGKILL."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # the whole of it, nothing is inherited
    directory: Path | None = None
    ready_url: str | None = None
    stop_signals: tuple[int, ...] = (signal.SIGTERM,)
    patience: float = 10.0
    orphan_signal: int = signal.SIGKILL  # sent by the kernel when the supervisor is gone
    account: Account | None = None
    descriptors: tuple[int, ...] = ()  # left open for it


def bound_here(orphan_signal: int, uid: str = "-", gid: str = "-") -> list[str]:
    """What stands before a program's own words, so that it ends with this process, however that ends."""
    return [sys.executable, "-I", "-S", str(BOUND), str(os.getpid()), str(int(orphan_signal)), uid, gid]


class Child:
    """A ChildSpec and its process, which may be started again after it ended."""

    def __init__(self, spec: ChildSpec, *, folder: StateFolder, hurry: asyncio.Event | None = None) -> None:
        self.spec = spec
        self.log = folder.log(spec.name)
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._hurry = hurry or asyncio.Event()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._log_start = 0

    @property
    def running(self) -> bool:
        return self.process is not None and not self._ended.done()

    def start(self) -> None:
        """In a process group of its own: the terminal's Ctrl-C reaches the supervisor alone, which ends all in order."""
        spec, account = self.spec, self.spec.account
        ids = [str(account.uid), str(account.gid)] if account else ["-", "-"]
        bound = bound_here(spec.orphan_signal, *ids)
        if self.process is not None:
            forget(self._folder, self.process.pid)
        log = self._folder.open_log(spec.name)
        try:
            self._log_start = os.fstat(log).st_size
            # Blocked, SIGINT waits for the program: Python as it starts would swallow some, and nobody sends it again.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self.process = subprocess.Popen(  # noqa: S603 - the caller's own programs
                    [*bound, *spec.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=spec.directory,
                    env={**spec.environment, MARKER: str(self._folder.path)},
                    process_group=0,
                    pass_fds=spec.descriptors,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finally:
            os.close(log)
        self._ended = asyncio.get_running_loop().create_future()
        remember(self._folder, spec.name, self.process.pid)
        # A thread of its own, not the loop's executor: waiting must not use up the places of those who work.
        threading.Thread(
            target=report_end, args=(self.process, self._ended), name=f"wait-{spec.name}", daemon=True
        ).start()

    async def ended(self) -> int:
        """Waits for the end; the exit status, negative for a signal."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Ends the process and whatever it started; returns when they are gone."""
        if self.process is None:
            return
        offspring = descendants(self.process.pid)
        for number in self.spec.stop_signals:
            if self._ended.done():
                break
            self._send(number)
            await self._wait(self.spec.patience)
        self._send(signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended(), REAP_SECONDS)
        for process in offspring:
            with suppress(psutil.Error):
                process.kill()
        forget(self._folder, self.process.pid)

    def words(self) -> str:
        """What this run has written to its log, the end of it."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, end - TAIL_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _send(self, number: int) -> None:
        if self.process is not None and not self._ended.done():
            self.process.send_signal(number)

    async def _wait(self, seconds: float) -> None:
        """Until the end, the time limit, or the user's second Ctrl-C; after that one, a moment for each signal."""
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.ended())]
        if self._hurry.is_set():
            seconds = min(seconds, HURRIED_SECONDS)
        else:
            waiting.append(asyncio.ensure_future(self._hurry.wait()))
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()


def report_end(process: subprocess.Popen[bytes], ended: "asyncio.Future[int]") -> None:
    status = process.wait()

    def settle() -> None:
        if not ended.done():
            ended.set_result(status)

    with suppress(RuntimeError):  # The loop closed first.
        ended.get_loop().call_soon_threadsafe(settle)


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
