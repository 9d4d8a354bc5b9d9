"""`pg_dump | pg_restore`: a copy of a database that goes on being used, in one snapshot and with no file between.

The dump takes the locks of a reader, so it is in nobody's way but a migration's, which gives up soon and tries again.
"""

import asyncio
import os
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path

from service.db.addresses import Address
from service.domain.branches import BranchError
from service.local.child import bound_here
from service.local.errors import StackError
from service.local.install import postgres_programs

SSL_MODES = {"off": "disable", "encrypt": "require", "verify": "verify-full"}
# How long a migration's ACCESS EXCLUSIVE may keep it from its snapshot.
LOCK_WAIT = "10s"
DUMP = ("--format=custom", "--compress=none", "--no-subscriptions", f"--lock-wait-timeout={LOCK_WAIT}")


async def dump_and_restore(source_url: str, target_url: str) -> None:
    """The target must be empty but for its extensions. Raises BranchError; both programs have ended when it returns.

    They end with this process, too: a restore that outlived it would write into the next draft of that name.
    """
    programs, bound = client_programs(), bound_here(signal.SIGKILL)
    reader, writer = os.pipe()
    dump = restore = None
    try:
        dump = await asyncio.create_subprocess_exec(
            *(*bound, str(programs / "pg_dump"), *DUMP),
            stdin=DEVNULL,
            stdout=writer,
            stderr=PIPE,
            env=environment(source_url),
        )
        os.close(writer)
        writer = -1
        restore = await asyncio.create_subprocess_exec(
            *(*bound, str(programs / "pg_restore"), "--exit-on-error", "--dbname="),  # that of PGDATABASE
            stdin=reader,
            stdout=DEVNULL,
            stderr=PIPE,
            env=environment(target_url),
        )
        os.close(reader)
        reader = -1
        restored, dumped = await asyncio.gather(finished(restore), finished(dump))
    finally:
        for end in (reader, writer):
            if end >= 0:
                os.close(end)
        for process in (dump, restore):
            if process is not None and process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    # The dump's own trouble first, unless all it says is that nobody reads on.
    for program, words in (("pg_restore", restored), ("pg_dump", dumped)):
        if words is not None:
            raise BranchError(sentence(program, words))


def environment(url: str) -> dict[str, str]:
    """What libpq reads: the password is in no argument list."""
    address = Address.direct(url)
    return {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "PGHOST": address.host,
        "PGPORT": str(address.port),
        "PGUSER": address.user,
        "PGPASSWORD": address.password,
        "PGDATABASE": address.database,
        "PGSSLMODE": SSL_MODES[address.tls],
        **({"PGSSLROOTCERT": address.ca_file} if address.tls == "verify" else {}),
        "PGAPPNAME": "service branch",
        # A copy that is lost with the server is made again; and no timeout of a role ends a long restore.
        "PGOPTIONS": "-c synchronous_commit=off -c statement_timeout=0 -c idle_in_transaction_session_timeout=0",
    }


async def finished(process: Process) -> str | None:
    """None when it did what it should, else its words."""
    assert process.stderr is not None  # noqa: S101 - opened as a pipe above
    words = await process.stderr.read()
    return None if await process.wait() == 0 else words.decode(errors="replace")


def sentence(program: str, words: str) -> str:
    if "No space left on device" in words:
        return "the disk of the database server is full: the branch did not fit, and nothing is left of it"
    reasons = re.findall(r"error:\s+(.*)", words) or words.splitlines() or ["it gave no reason"]
    return f"{program} ended in the middle, and nothing is left of the branch: {reasons[0].strip()}"


def client_programs() -> Path:
    """Of the wheel, else of the system: a dump is read by servers from its own version on."""
    try:
        return postgres_programs(None, Path.cwd())
    except StackError:
        found = shutil.which("pg_dump")
        if found is None:
            raise BranchError(
                "pg_dump is not installed, which copies a database that is in use: install PostgreSQL's client programs, or"
                " disconnect everybody and say --way template"
            ) from None
        return Path(found).resolve().parent
