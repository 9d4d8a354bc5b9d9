"""Processor seconds and memory of the service's processes, told apart by what they do."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Watched:
    """The processes below one that started them all; None where the service is somewhere else."""

    pid: int | None

    def cpu(self) -> dict[str, float]:
        """Seconds so far by part. Those of a process that has ended are its parent's."""
        spent: dict[str, float] = defaultdict(float)
        for part, process in self._parts():
            times = process.cpu_times()
            spent[part] += times.user + times.system + times.children_user + times.children_system
        return dict(spent)

    def memory(self) -> dict[str, dict[str, float]]:
        """Megabytes by part: `rss` counts a shared page for each process, `pss` once among all."""
        used: dict[str, dict[str, float]] = defaultdict(lambda: {"rss": 0.0, "pss": 0.0, "processes": 0})
        for part, process in self._parts():
            full = process.memory_full_info()
            used[part]["rss"] += full.rss / MB
            used[part]["pss"] += getattr(full, "pss", full.uss) / MB
            used[part]["processes"] += 1
        return {part: {name: round(value, 1) for name, value in each.items()} for part, each in used.items()}

    def _parts(self) -> Iterator[tuple[str, psutil.Process]]:
        if self.pid is None:
            return
        top = psutil.Process(self.pid)
        for process in [top, *top.children(recursive=True)]:
            try:
                yield part_of(process), process
            except psutil.Error:  # It has ended meanwhile.
                continue


def part_of(process: psutil.Process) -> str:
    name, words = process.name(), process.cmdline()
    if name.startswith("postgres") or (words and words[0].startswith("postgres")):
        return "postgres"
    if "rclone" in name:
        return "objects"
    for part in ("worker", "serve"):
        if part in words:
            return "api" if part == "serve" else part
    if "run" in words:
        return "supervisor"
    try:
        above = process.parent()
        return part_of(above) if above is not None else "other"
    except psutil.Error:
        return "other"


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: round(after[part] - before.get(part, 0.0), 3) for part in after}
