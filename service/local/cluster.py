"""The data folder of Postgres: made whole or not at all, and checked before a server touches it."""

import os
import pwd
import shutil
import signal
import sys
from pathlib import Path

from service.local.account import Account
from service.local.child import Child, ChildSpec
from service.local.errors import NO_SPACE, StackError, disk_full, from_os_error
from service.local.folder import StateFolder

MAJOR_VERSION = "18"
# Of the C library, which text search asks what a letter is: `C` takes every dash and quote beyond ASCII for one.
LOCALES = ("C.UTF-8", "en_US.UTF-8", "C")
UNKNOWN_LOCALE = "invalid locale name"


def server_location(data: Path, account: Account | None) -> tuple[Path, str]:
    """The working directory to start in and the name that the server calls its data by.

    A lent account may not be allowed to walk down to the data (say, below /root), but a working directory is inherited:
    Linux names it /proc/self/cwd whatever the parents' modes, so none of them needs to change.
    """
    if account is not None and sys.platform == "linux":
        return data, "/proc/self/cwd"
    return data, str(data)


async def make_cluster(
    folder: StateFolder, programs: Path, *, account: Account | None, password: str, durable: bool
) -> None:
    """Runs initdb beside the final place and renames, so that an interrupted start leaves nothing to repair."""
    data, draft = folder.path / "postgres", folder.path / "postgres.new"
    words = ""
    try:
        for locale in LOCALES:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            if account is not None:
                os.chown(draft, account.uid, account.gid)
            status, words = await run_initdb(
                folder, programs, draft, account=account, password=password, durable=durable, locale=locale
            )
            if status == 0:
                if data.exists():
                    data.rmdir()
                draft.rename(data)
                return
            if UNKNOWN_LOCALE not in words:
                break
    except OSError as error:
        raise from_os_error(error, draft) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if NO_SPACE in words or shutil.disk_usage(folder.path).free == 0:
        raise disk_full(folder.path)
    reasons = [line for line in words.splitlines() if "error" in line.lower() or "FATAL" in line]
    reason = reasons[0].strip() if reasons else "it gave no reason"
    raise StackError(f"The database could not be made: {reason} (log: {folder.log('initdb')}).")


async def run_initdb(
    folder: StateFolder,
    programs: Path,
    draft: Path,
    *,
    account: Account | None,
    password: str,
    durable: bool,
    locale: str,
) -> tuple[int, str]:
    directory, location = server_location(draft, account)
    reader, writer = os.pipe()
    try:
        if account is not None:
            os.fchown(reader, account.uid, account.gid)  # It is opened again, by name.
        os.write(writer, f"{password}\n".encode())
        os.close(writer)
        argv = [
            *(str(programs / "initdb"), "-D", location, "--username=postgres", f"--pwfile=/dev/fd/{reader}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", f"--locale={locale}", "--lc-messages=C"),
            *(
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ),
            *sync_options(durable=durable),
        ]
        spec = ChildSpec(
            name="initdb",
            argv=argv,
            environment={"PATH": os.defpath, "LC_ALL": locale, "TZ": "UTC"},
            directory=directory,
            stop_signals=(signal.SIGTERM,),
            account=account,
            descriptors=(reader,),
        )
        child = Child(spec, folder=folder)
        child.start()
        try:
            return await child.ended(), child.words()
        finally:
            await child.stop()
    finally:
        os.close(reader)


def sync_options(*, durable: bool) -> list[str]:
    if not durable:
        return ["--no-sync"]
    return ["--sync-method=syncfs"] if sys.platform == "linux" else []  # one call instead of a thousand


def check_cluster(data: Path, *, account: Account | None) -> None:
    """Raises StackError for a folder that no server should be started on."""
    away = f"restore it, or move it away (mv '{data}' '{data}.broken') to start empty"
    try:
        owner = data.stat().st_uid
        uid = account.uid if account else os.geteuid()
        if owner != uid:
            raise StackError(
                f"{data} belongs to {user_name(owner)}: run as that user or as root, or name another with DATA_DIR."
            )
        version = (data / "PG_VERSION").read_text(encoding="ascii").strip()
        if version != MAJOR_VERSION:
            raise StackError(
                f"{data} holds data of Postgres {version}, and this service brings {MAJOR_VERSION}: "
                "move the folder away, or name another with DATA_DIR."
            )
        missing = [name for name in ("global/pg_control", "base", "pg_wal") if not (data / name).exists()]
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        raise StackError(f"{data} is no whole Postgres folder (PG_VERSION is missing): {away}.") from None
    except OSError as error:
        raise from_os_error(error, data) from None
    if missing:
        raise StackError(f"{data} is no whole Postgres folder ({missing[0]} is missing): {away}.")


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
