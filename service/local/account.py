"""Postgres refuses to run as root, so root lends it another account; nobody else is asked to change anything."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from service.local.errors import StackError

# In this order; `nobody` is on every Unix, `daemon` on those that cut it out.
LENT = ("nobody", "daemon", "postgres")


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Whether this account can reach `folder` through all of its parents."""
        return all(self._has(place, bit=1) for place in (folder, *folder.parents))

    def may_run(self, program: Path) -> bool:
        return self.may_enter(program.parent) and self._has(program, bit=1)

    def _has(self, place: Path, *, bit: int) -> bool:
        status = place.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & bit << 6)
        if status.st_gid == self.gid:
            return bool(status.st_mode & bit << 3)
        return bool(status.st_mode & bit)


def owner_of(folder: Path) -> Account | None:
    """For root on somebody else's folder, that somebody; None otherwise."""
    uid = folder.stat().st_uid
    if os.geteuid() != 0 or uid == 0:
        return None
    entry = next((entry for entry in pwd.getpwall() if entry.pw_uid == uid), None)
    return entry and Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def account_for(folder: Path) -> Account | None:
    """None for an ordinary user. For root: who owns the data already, else the folder's owner, else `nobody`."""
    if os.geteuid() != 0:
        return None
    entries = pwd.getpwall()
    by_id, by_name = {entry.pw_uid: entry for entry in entries}, {entry.pw_name: entry for entry in entries}
    owners = [place.stat().st_uid for place in (folder / "postgres", folder) if place.exists()]
    candidates = [*(by_id.get(uid) for uid in owners if uid != 0), *(by_name.get(name) for name in LENT)]
    for entry in filter(None, candidates):
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise StackError(f"Postgres does not run as root, and this machine has none of the users {', '.join(LENT)}.")
