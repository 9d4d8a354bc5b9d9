"""Somebody who follows a page of the documents in a fresh clone, and stops at the first command that fails."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.documented import ROOT, Block

PATIENCE = 180.0  # Seconds that one block may take, on a machine that has other things to do.
DAY = 24 * 3600
MADE = {
    ".git",
    ".venv",
    ".local",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "node_modules",
    "build",
}
READY = "Ctrl-C stops it"
FOREIGN = (
    "DATA",
    "DATA_DIR",
    "FORCE_COLOR",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "SERVICE_API_KEY",
    "SERVICE_URL",
    "XDG_CONFIG_HOME",
)


def tracked_and_new() -> list[Path]:
    """The files of the tree that git does not ignore; without git, all but what is made there."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "-coz", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
    return [path for path in found if not MADE.intersection(path.parts) and (ROOT / path).is_file()]


def copy_tree(to: Path) -> None:
    """What a fresh clone would have, uncommitted work included, and a `.venv` that is installed already."""
    for name in tracked_and_new():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    (to / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith(".installed"):
            (to / ".venv" / part.name).symlink_to(part)
    for stamp in (".installed", ".installed-dev"):  # Newer than whatever a page writes: make has nothing to install.
        (to / ".venv" / stamp).touch()
        os.utime(to / ".venv" / stamp, (time.time() + DAY, time.time() + DAY))


class Reader:
    """One shell for all blocks of a page, so that a later block knows the variables of an earlier one."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self.tree, self._notes = folder / "clone", folder / "notes"
        self._notes.mkdir(parents=True)
        self.tree.mkdir()
        copy_tree(self.tree)
        (folder / ".curlrc").write_text("fail-with-body\n")  # A 4xx is status 22: nobody shows one by mistake.
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in FOREIGN and name[:7] != "PYTEST_"},
            "HOME": str(folder),
            "CURL_HOME": str(folder),
            "PYTHONPATH": str(self.tree),
            "PORT": str(port),
            "EMBEDDING_MODEL": "hashing",
            "PIP_DRY_RUN": "1",  # The packages are everybody's, and an editable install would lead into this clone.
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        self._endless: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._count = 0
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.tree,
            env=self._environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._tell("set -u -o pipefail")

    def share(self, local: Path, *, key: str) -> None:
        """A service that runs in another clone, as another tenant: `.local` as it would be had it been started here."""
        (self.tree / ".local").mkdir()
        for name in ("url", "environment", "stack.json"):
            shutil.copy2(local / name, self.tree / ".local" / name)
        (self.tree / ".local" / "logs").symlink_to(local / "logs")
        (self.tree / ".local" / "api_key").write_text(f"{key}\n")

    def follow(self, block: Block) -> tuple[int, str]:
        """Exit status and output of a block; its first command that fails ends it, as it would make a reader stop."""
        self._count += 1
        script, output = self._notes / f"{self._count}.sh", self._notes / f"{self._count}.out"
        script.write_text(block.commands, encoding="utf-8")
        if block.endless:
            return self._begin(script, output)
        strict = "set -e" if block.status == 0 else "set +e"
        self._tell(f"{strict}; source '{script}' >'{output}' 2>&1 </dev/null; echo $?")
        assert self._shell.stdout is not None
        answered, _, _ = select.select([self._shell.stdout], [], [], PATIENCE)
        if not answered:
            return -1, f"{output.read_text()}\nnot finished after {PATIENCE:.0f} s"
        said = self._shell.stdout.readline()
        return (int(said) if said else self._shell.wait(PATIENCE)), output.read_text(encoding="utf-8")

    def _tell(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{line}\n".encode())
        self._shell.stdin.flush()

    def _begin(self, script: Path, output: Path) -> tuple[int, str]:
        """Starts what goes on until Ctrl-C, and waits until it says so."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", script],
                cwd=self.tree,
                env=self._environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._endless.append((process, output))
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and READY not in output.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        said = output.read_text(encoding="utf-8")
        return (0 if READY in said else 1), said

    def interrupt(self) -> list[str]:
        """Ctrl-C to everything that goes on; what each has said at its end."""
        for process, _ in self._endless:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        return [output.read_text(encoding="utf-8") for _, output in self._endless]

    def leave(self) -> None:
        """Ends whatever is left in the groups that this reader has started."""
        for process in (self._shell, *(process for process, _ in self._endless)):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        for pipe in (self._shell.stdin, self._shell.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
