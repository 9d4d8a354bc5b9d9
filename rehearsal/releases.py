"""The releases of this project, each read from the history of git and laid out in a folder of its own."""

import io
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal.failures import RehearsalError
from service.domain.releases import order

PARTS = ("service", "migrations", "pyproject.toml")
NEEDS = re.compile(r'^NEEDS(?:: \w+)? = "(\w+)"', re.MULTILINE)
SHALLOW = (
    "this clone is shallow, so the commits of older releases are missing: fetch them with `git fetch --unshallow`"
    " (in a pipeline: a checkout of depth 0)"
)


@dataclass(frozen=True)
class Release:
    """`needs` is the newest migration that it cannot run without; `tree` holds its code and its migrations."""

    version: str
    tree: Path
    needs: str

    @property
    def order(self) -> tuple[int, ...]:
        return order(self.version)

    def __str__(self) -> str:
        return self.version


def git(root: Path, *words: str) -> bytes:
    """Raises RehearsalError with the last words of git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise RehearsalError("git is not installed, and the older releases are in its history") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RehearsalError(f"git {words[0]} failed: {said[-1] if said else 'it gave no reason'}")
    return done.stdout


def version_at(root: Path, commit: str) -> str:
    project = tomllib.loads(git(root, "show", f"{commit}:pyproject.toml").decode())
    return str(project["project"]["version"])


def find_commits(root: Path) -> dict[str, str]:
    """The last commit of each version on this line of history, the oldest version first; of the newest, HEAD."""
    touching = git(root, "log", "--first-parent", "--format=%H", "--", "pyproject.toml").decode().split()
    found: dict[str, str] = {}
    last = "HEAD"
    for commit in touching:
        found.setdefault(version_at(root, commit), last)
        last = f"{commit}~1"  # Until the next one touched the version, this was what was released.
    return dict(reversed(found.items()))


def lay_out(root: Path, commit: str, folder: Path) -> None:
    """What runs, without the files that only develop it. No worktree: nothing to prune after a `kill -9`."""
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", commit, *PARTS))) as archive:
        archive.extractall(folder, filter="data")


def read_release(tree: Path) -> Release | None:
    """None for a release from before releases announced themselves."""
    place = tree / "service" / "release.py"
    if not place.is_file():
        return None
    needs = NEEDS.search(place.read_text(encoding="utf-8"))
    if needs is None:
        raise RehearsalError(f"{place} does not say NEEDS")
    version = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return Release(version, tree, needs[1])


def take_releases(root: Path, folder: Path, *, wanted: Sequence[str] = (), most: int = 3) -> list[Release]:
    """The `wanted` versions, else the `most` newest that announce themselves; the oldest first.

    Raises RehearsalError where there are fewer than two.
    """
    commits = find_commits(root)
    missing = [version for version in wanted if version not in commits]
    if missing:
        raise RehearsalError(f"no commit has version {', '.join(missing)}; there are {', '.join(commits)}{hint(root)}")
    taken: list[Release] = []
    for version in wanted or list(commits)[::-1]:
        lay_out(root, commits[version], folder / version)
        release = read_release(folder / version)
        if release is None and not wanted:
            break
        if release is None:
            raise RehearsalError(f"release {version} does not announce itself yet, so it cannot take part")
        taken.append(release)
        if len(taken) == most and not wanted:
            break
    if len(taken) < 2:
        raise RehearsalError(f"a rehearsal needs two releases, and there is {len(taken)}{hint(root)}")
    return sorted(taken, key=lambda release: release.order)


def hint(root: Path) -> str:
    shallow = git(root, "rev-parse", "--is-shallow-repository").decode().strip() == "true"
    return f": {SHALLOW}" if shallow else ""


def unfinished(root: Path) -> list[str]:
    """What is changed and not committed, and so not rehearsed."""
    lines = git(root, "status", "--porcelain", "--", *PARTS).decode().splitlines()
    return [line[3:] for line in lines]
