"""What it was measured on and with, so that nobody has to ask."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "aiohttp",
    "asyncpg",
    "fastapi",
    "httptools",
    "numpy",
    "openvino",
    "psqlpy",
    "sentence-transformers",
    "torch",
    "uvicorn",
    "uvloop",
)


def machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision() -> dict[str, Any]:
    """Of the code that measures, which is the service's where the benchmark has started it."""
    commit = _git("rev-parse", "HEAD")
    return {"git": commit, "changed": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
