"""Processes that an earlier run left behind: a `kill -9` runs no clean-up, so the next start does it."""

import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from service.local.errors import StackError
from service.local.folder import StateFolder

# In the environment of every child, so that grandchildren are found too.
MARKER = "LOCAL_STACK_FOLDER"
PATIENCE = 10.0
POLL_SECONDS = 0.02
SAME_START_SECONDS = 2.0  # The clock may have been set in between; a pid is not used again that fast.


def remember(folder: StateFolder, name: str, pid: int) -> None:
    """Written down with the start time, because a pid alone soon names somebody else."""
    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        return
    record = json.dumps({"name": name, "started": started})
    folder.write(folder.subfolder("processes") / str(pid), record, durable=False)


def forget(folder: StateFolder, pid: int) -> None:
    (folder.path / "processes" / str(pid)).unlink(missing_ok=True)


def end_leftovers(folder: StateFolder) -> int:
    """Ends what runs on this folder though nobody holds its lock; how many they were. Call it with the lock held."""
    records = folder.path / "processes"
    stale = [folder.path / "postgres" / "postmaster.pid", folder.path / "postgres.new" / "postmaster.pid"]
    unclean = (records.is_dir() and any(records.iterdir())) or any(file.exists() for file in stale)
    if not unclean:
        return 0
    found = {process.pid: process for process in [*_recorded(records), *_marked(folder)]}
    for process in list(found.values()):
        with suppress(psutil.Error):
            found |= {child.pid: child for child in process.children(recursive=True)}
    _end(list(found.values()))
    for file in [*stale, *(records.iterdir() if records.is_dir() else [])]:
        file.unlink(missing_ok=True)
    return len(found)


def _recorded(records: Path) -> list[psutil.Process]:
    processes = []
    for file in records.iterdir() if records.is_dir() else []:
        with suppress(psutil.Error, ValueError, KeyError, OSError):
            process = psutil.Process(int(file.name))
            started = json.loads(file.read_text(encoding="utf-8"))["started"]
            if abs(process.create_time() - started) < SAME_START_SECONDS:
                processes.append(process)
    return processes


def _marked(folder: StateFolder) -> list[psutil.Process]:
    """By environment, or for Postgres, which writes its title over its environment, by working directory."""
    databases = {str(folder.path / "postgres"), str(folder.path / "postgres.new")}
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) == str(folder.path) or process.cwd() in databases:
                processes.append(process)
    return processes


def _end(processes: list[psutil.Process]) -> None:
    """Gently first: a postmaster that is told to stop needs no crash recovery at the next start."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            _signal(process, signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    for process in _still_running(processes):
        with suppress(psutil.NoSuchProcess):
            _signal(process, signal.SIGKILL)
    _still_running(processes)


def _still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended when patience has."""
    deadline = time.monotonic() + PATIENCE
    while alive := [process for process in processes if runs(process)]:
        if time.monotonic() > deadline:
            return alive
        time.sleep(POLL_SECONDS)
    return []


def runs(process: psutil.Process) -> bool:
    """A zombie does not: in a container nobody may ever collect it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.AccessDenied:
        raise StackError(
            f"Process {process.pid} is left from an earlier run by another user: end it (kill {process.pid}), then start again."
        ) from None
