"""Branches on any Postgres: each a database of the same server, copied whole.

The roles, passwords and API keys are the primary's, so are the doors' addresses up to the database's name.
"""

import shutil
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from service.branches.base import Addresses
from service.branches.dump import dump_and_restore
from service.db import branch_copy as copying
from service.db import branching
from service.db.addresses import parts_of
from service.db.branching import Admin, Found
from service.domain.branches import (
    PRIMARY,
    Branch,
    BranchError,
    BusyError,
    Copied,
    Note,
    UnknownBranchError,
    object_prefix,
)
from service.local.sharing import shares_blocks

Way = Literal["auto", "template", "dump"]
SHARED = "copy-on-write"


@dataclass(frozen=True, kw_only=True)
class PostgresBranches:
    """`folder` is where the server keeps its data, when that is on this machine."""

    admin_url: str = field(repr=False)
    addresses: Addresses
    s3_prefix: str = ""
    folder: Path | None = None
    way: Way = "auto"

    @property
    def primary(self) -> str:
        a = self.addresses
        return branching.database_in(a.database_direct_url or a.database_url)

    async def create(
        self, name: str, *, parent: str = PRIMARY, expires_at: datetime | None = None, protected: bool = False
    ) -> Copied:
        database = branching.database_of(self.primary, name)
        async with branching.administering(self.admin_url) as admin, branching.alone(admin, self.primary, name):
            found = await _family(admin, self.primary)
            if _ready(found, name):
                raise BranchError(f"there is a branch {name} already: reset it, or delete it first")
            if await branching.exists(admin, database):
                raise BranchError(f"there is a database {database} already, which is no branch: choose another name")
            note = self._note(name, parent, expires_at=expires_at, protected=protected)
            copied = await self._copy(admin, _whole(found, parent), note)
            await branching.name_it(admin, branching.draft_of(self.primary, name), database)
            return copied

    async def list(self) -> list[Branch]:
        async with branching.administering(self.admin_url) as admin:
            return [each.branch for each in await _family(admin, self.primary)]

    async def uri(self, name: str) -> Addresses:
        async with branching.administering(self.admin_url) as admin:
            database = _whole(await _family(admin, self.primary), name).database
        a = self.addresses
        direct = a.database_direct_url and of_database(a.database_direct_url, database)
        return Addresses(
            database_url=of_database(a.database_url, database),
            search_database_url=of_database(a.search_database_url, database),
            database_direct_url=direct,
        )

    async def reset(self, name: str) -> Copied:
        """The new copy is made before the old one goes, so a reset that fails leaves the branch as it was."""
        database = branching.database_of(self.primary, name)
        async with branching.administering(self.admin_url) as admin, branching.alone(admin, self.primary, name):
            found = await _family(admin, self.primary)
            old = _changeable(found, name).note
            if old is None:
                raise BranchError(f"the branch {name} was never whole: delete it and create it again")
            note = self._note(name, old.parent, expires_at=old.expires_at, protected=old.protected)
            copied = await self._copy(admin, _whole(found, old.parent), note)
            await branching.drop(admin, database)
            await branching.name_it(admin, branching.draft_of(self.primary, name), database)
            return copied

    async def delete(self, name: str) -> None:
        database = branching.database_of(self.primary, name)
        async with branching.administering(self.admin_url) as admin, branching.alone(admin, self.primary, name):
            found = await _family(admin, self.primary)
            draft = branching.draft_of(self.primary, name)
            if any(each.database == draft for each in found):
                await branching.drop(admin, draft)
                if not _ready(found, name):
                    return
            _changeable(found, name)
            await branching.drop(admin, database)

    def _note(self, name: str, parent: str, *, expires_at: datetime | None, protected: bool) -> Note:
        prefix = object_prefix(self.s3_prefix, name)
        return Note(
            branch=name,
            parent=parent,
            s3_prefix=prefix,
            created_at=datetime.now(UTC),
            expires_at=expires_at,
            protected=protected,
        )

    async def _copy(self, admin: Admin, parent: Found, note: Note) -> Copied:
        """A whole draft, under its lock; when it raises, no draft is left unless this process was killed."""
        draft = branching.draft_of(self.primary, note.branch)
        begun, free = time.monotonic(), self._free()
        try:
            await branching.drop(admin, draft)  # of one who was killed
            way, why = await self._fill(admin, parent.database, draft, note)
            await copying.copy_rights_and_settings(admin, parent.database, draft)
            await copying.settle(of_database(self.admin_url, draft), analyze=way == "dump")
            note = replace(note, way=way)
            await branching.write_note(admin, draft, note)
            size = await admin.fetchval("select pg_database_size($1::name)", draft)
        except BaseException:
            if not admin.is_closed():
                await branching.drop(admin, draft)
            raise
        # Others write on the same disk; a whole copy takes its size.
        taken = max(0, free - (self._free() or 0)) if free is not None and way == SHARED else None
        branch = branching.branch_of(note, size)
        return Copied(branch=branch, seconds=time.monotonic() - begun, why=why, taken=taken)

    async def _fill(self, admin: Admin, parent: str, draft: str, note: Note) -> tuple[str, str]:
        """CREATE DATABASE keeps new connections to the parent waiting while it copies, and for five seconds when it finds
        old ones, so nobody's are ended and it is not even tried while there are any.
        """
        users = await copying.users(admin, parent)
        why = f"{users} connections to the parent, which stay" if users else ""
        if users and self.way == "template":
            raise BranchError(
                f"there are {why}: a template copy needs none; stop what is connected, or leave out --way"
            )
        if not users and self.way != "dump":
            try:
                strategy = await copying.copy_template(admin, parent, draft)
            except BusyError:
                if self.way == "template":
                    raise
                why = "somebody came in while the template copy began"
            else:
                shares = strategy == "clone" and self.folder is not None and shares_blocks(self.folder)
                return (SHARED if shares else "template copy"), ""
        await copying.create_empty(admin, parent, draft)
        await branching.write_note(admin, draft, note)
        parent_url, draft_url = of_database(self.admin_url, parent), of_database(self.admin_url, draft)
        await copying.copy_extensions(parent_url, draft_url)
        await dump_and_restore(parent_url, draft_url)
        return "dump", why

    def _free(self) -> int | None:
        try:
            return shutil.disk_usage(self.folder).free if self.folder else None
        except OSError:
            return None


def of_database(url: str, database: str) -> str:
    return parts_of(url)._replace(path=f"/{quote(database, safe='')}").geturl()


async def _family(admin: Admin, primary: str) -> list[Found]:
    """The primary first. Raises BranchError on the wrong server, and with the settings of a branch."""
    found = await branching.family(admin, primary)
    if not found or found[0].database != primary:
        raise BranchError(f"the server of DATABASE_ADMIN_URL has no database {primary}: is it another server?")
    if found[0].note is not None:
        raise BranchError(f"the settings are those of the branch {found[0].note.branch}: use the primary's")
    return found


def _ready(found: list[Found], name: str) -> Found | None:
    return next((each for each in found if each.branch.name == name and each.branch.state == "ready"), None)


def _whole(found: list[Found], name: str) -> Found:
    """Raises UnknownBranchError that says what there is, or in which state it is."""
    ready = _ready(found, name)
    if ready is None:
        state = next((each.branch.state for each in found if each.branch.name == name), None)
        names = ", ".join(each.branch.name for each in found if each.branch.state == "ready")
        raise UnknownBranchError(
            f"the branch {name} is {state}" if state else f"no branch is called {name}; there are {names}"
        )
    return ready


def _changeable(found: list[Found], name: str) -> Found:
    """Raises BranchError for what must stay."""
    each = _whole(found, name)
    if each.branch.protected:
        raise BranchError(f"the branch {name} is protected")
    children = [child.branch.name for child in found if child.branch.parent == name]
    if children:
        raise BranchError(
            f"the branch {name} has branches, whose rows name its objects: delete {', '.join(children)} first"
        )
    return each
