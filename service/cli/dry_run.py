"""`service migrate expand|contract --dry-run`: the SQL that would run, and what each statement would make others wait for."""

import ast
import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from service.db.history import read_state
from service.db.lint.check import proven
from service.db.lint.files import gate_call
from service.db.lint.findings import Known
from service.db.lint.revisions import Revision, revisions_of
from service.db.migrate import MIGRATIONS
from service.db.sql_lock_modes import Work
from service.db.sql_locks import UnknownStatementError, of_statement
from service.db.sql_statements import Statement, relation

ENDING = (
    "-- A transaction keeps its locks until its COMMIT. None waits longer for one than lock_timeout: it gives up, and the\n"
    "-- migration is tried again. Each revision is also noted in alembic_version and applied_migrations: ROW EXCLUSIVE."
)


def dry_run(direct_url: str, *, phase: str, migrations: Path = MIGRATIONS) -> str:
    """What a phase has left to do on this database, as SQL with comments; nothing is changed, and no gate is asked.

    Raises UnavailableError, WrongRoleError or UnreadableMigrationError.
    """
    state = asyncio.run(read_state(direct_url))
    # An empty database gets the base with its first phase.
    left = {step.revision for name in ("base", phase) for step in state.left(name)}
    known, pending = Known(), []
    for revision in revisions_of(migrations):
        shown = "\n".join(lines_of(revision, known))
        if revision.name in left:
            pending.append(shown)
    if not pending:
        return f"-- Nothing is left to {phase}."
    return "\n\n".join([*pending, ENDING])


def lines_of(revision: Revision, known: Known) -> Iterator[str]:
    yield f"-- {revision.path.stem}, revision {revision.name}"
    call = gate_call(revision.source)
    if call is not None:
        yield f"-- first {ast.unparse(call)}"
        yield "   -- SHARE ROW EXCLUSIVE on instances, until the first COMMIT: no instance starts, and none says that it lives"
    new: set[str] = set()
    for statement in revision.statements:
        if statement.kind == "create_stmt":
            new.add(relation(statement.node.relation))
        yield f"{statement.text};"
        if statement.kind != "transaction_stmt":
            yield from (f"   -- {line}" for line in locks(statement, new, known))
        known.note(statement, revision)


def locks(statement: Statement, new: set[str], known: Known) -> list[str]:
    """A table of the same migration is nobody's yet; what a valid CHECK proves is not looked for in the rows."""
    spared = proven(statement, known)
    try:
        taken = [
            str(replace(lock, work=Work.INSTANT) if spared else lock)
            for lock in of_statement(statement)
            if lock.relation not in new
        ]
    except UnknownStatementError:
        return ["which locks it takes is not known"]
    return taken or ["no lock that anybody could meet"]
