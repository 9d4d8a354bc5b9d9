"""A venv for each peer below one git-ignored folder, made once and made anew when its requirements change."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.peers.failures import PeerError

REQUIREMENTS = Path(__file__).with_name("requirements")
MINUTES = 15  # The largest downloads half a gigabyte.
LAST_WORDS = 400


@dataclass(frozen=True)
class Environment:
    """The interpreter that has the peer, and what pip says is installed beside it."""

    name: str
    python: Path
    versions: dict[str, str]

    def program(self, name: str) -> Path:
        return self.python.with_name(name)


def prepare(name: str, folder: Path) -> Environment:
    """Returns at once where it is already there. Blocks; raises PeerError with the last words of whatever failed."""
    requirements, place = REQUIREMENTS / f"{name}.txt", folder / name
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp, python = place / "installed", place / "bin" / "python"
    if not stamp.is_file() or stamp.read_text(encoding="ascii") != wanted:
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", str(place)], name)
        run([str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", str(requirements)], name)
        stamp.write_text(wanted, encoding="ascii")
    frozen = run([str(python), "-m", "pip", "freeze", "--disable-pip-version-check"], name)
    return Environment(name, python, dict(line.split("==", 1) for line in frozen.splitlines() if "==" in line))


def run(argv: list[str], name: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{name} could not be installed: {error}") from None
    if done.returncode:
        raise PeerError(
            f"{name} could not be installed: {' '.join((done.stderr or done.stdout).split())[-LAST_WORDS:]}"
        )
    return done.stdout
