"""This machine: its Python, and the disk of `make run`."""

import platform
import shutil
import sys
from pathlib import Path

from service.cli.checks.finding import Report, checking

PYTHON = (3, 11)
GIGABYTE = 10**9
LITTLE_BYTES, LEAST_BYTES = 5 * GIGABYTE, GIGABYTE // 2  # A full disk stops Postgres in the middle of a write.


def check_python(report: Report) -> None:
    with checking("python", report) as found:
        version = platform.python_version()
        if sys.version_info < PYTHON:
            found.say(
                "error",
                f"Python {version} is older than {PYTHON[0]}.{PYTHON[1]}",
                "install Python 3.11 or newer, then: make clean install",
            )
        found.ok(f"Python {version}")


def check_disk(path: Path, report: Report) -> None:
    """Nothing to say where `make run` keeps nothing."""
    if not path.is_dir():
        return
    with checking("disk", report) as found:
        free = shutil.disk_usage(path).free
        sentence = f"{free / GIGABYTE:.1f} GB are free where {path.absolute()} lies"
        remedy = (
            f"make room, or stop the service, move {path} to a larger disk and start it with DATA_DIR=/there make run"
        )
        if free < LITTLE_BYTES:
            found.say("error" if free < LEAST_BYTES else "warning", sentence, remedy)
        found.ok(sentence)
