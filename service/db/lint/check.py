"""The linter: every migration against our rules and squawk's, and every exception against what it excuses."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from postgast import pg_query_pb2 as pg

from service.db.lint.alterations import alterations
from service.db.lint.files import of_file
from service.db.lint.findings import Finding, Known, Looked
from service.db.lint.revisions import Revision, revisions_of
from service.db.lint.squawk import TWINS, squawk
from service.db.lint.statements import RULES
from service.db.sql_lock_modes import TakenLock, Work
from service.db.sql_locks import UnknownStatementError, of_statement
from service.db.sql_statements import Statement, relation

SLOW = frozenset({Work.SCAN, Work.REWRITE, Work.BUILD})


def lint(migrations: Path) -> list[Finding]:
    """What is wrong, in the order of the history; nothing is run and no database is asked.

    Raises UnreadableMigrationError and SquawkError.
    """
    revisions = revisions_of(migrations)
    known, backfills = Known(), migrations / "backfills"
    ours = [finding for revision in revisions for finding in of_revision(revision, known, backfills)]
    spoken = {(each.revision, each.place, each.rule) for each in ours}
    theirs = [each for each in squawk(revisions) if (each.revision, each.place, TWINS.get(each.rule, "")) not in spoken]
    found = unfinished_backfills(backfills)
    for revision in revisions:
        found += excused(revision, [each for each in ours + theirs if each.revision == str(revision)])
    return found


def of_revision(revision: Revision, known: Known, backfills: Path) -> Iterator[Finding]:
    for rule, sentence in of_file(revision, backfills):
        yield Finding(str(revision), None, "", rule, sentence)
    new: set[str] = set()
    held: dict[str, TakenLock] = {}
    inside = False
    for place, statement in enumerate(revision.statements, start=1):
        if statement.kind == "transaction_stmt":
            inside, held = statement.text.upper() == "BEGIN", {}
        if statement.kind == "create_stmt":
            new.add(relation(statement.node.relation))
        seen = Looked(statement, revision, known, frozenset(new), inside)
        said = [each for rule in (alterations, *RULES) for each in rule(seen)]
        said += under_lock(statement, held, new, spoken=bool(said) or proven(statement, known))
        for rule, sentence in said:
            yield Finding(str(revision), place, str(statement), rule, sentence)
        known.note(statement, revision)


def proven(statement: Statement, known: Known) -> bool:
    """SET NOT NULL, where a validated CHECK spares Postgres the look at the rows."""
    if statement.kind != "alter_table_stmt":
        return False
    commands = [each.alter_table_cmd for each in statement.node.cmds]
    table = relation(statement.node.relation)
    return all(each.subtype == pg.AT_SetNotNull and (table, each.name) in known.proven for each in commands)


def under_lock(
    statement: Statement, held: dict[str, TakenLock], new: set[str], *, spoken: bool
) -> Iterator[tuple[str, str]]:
    """Slow work while others wait: because of the statement's own lock, or of one that its transaction still holds."""
    try:
        locks = of_statement(statement)
    except UnknownStatementError:
        return
    for lock in locks:
        if lock.relation in new:
            continue
        before = held.get(lock.relation)
        if lock.work in SLOW and lock.stops_writers and not spoken:
            yield "slow-under-lock", f"{lock}: find a way that takes a weaker lock, or does the work elsewhere"
        elif lock.work in SLOW and before is not None and before.stops_writers:
            yield (
                "slow-under-lock",
                (
                    f"{lock.relation} is read whole while this transaction still holds {before.mode} on it ({before.lets}):"
                    " commit between the two"
                ),
            )
        if before is None or lock.stops_writers:
            held[lock.relation] = lock


def unfinished_backfills(backfills: Path) -> list[Finding]:
    return [
        Finding(f"backfills/{path.name}", None, "", "unfinished", "a TODO is left in the file: fill it in")
        for path in sorted(backfills.glob("*.py"))
        if "TODO" in path.read_text()
    ]


def excused(revision: Revision, found: Sequence[Finding]) -> list[Finding]:
    """Without what the file excuses; an exception must have a reason and something to excuse."""
    left = [each for each in found if not str(revision.exceptions.get(each.rule, "")).strip()]
    rules = {each.rule for each in found}
    for rule, reason in revision.exceptions.items():
        if not str(reason).strip():
            sentence = f"LINT_EXCEPTIONS excuses {rule} without a reason: write why it is safe here"
            left.append(Finding(str(revision), None, "", "exception-without-reason", sentence))
        elif rule not in rules:
            sentence = f"LINT_EXCEPTIONS excuses {rule}, which nothing here breaks: remove it"
            left.append(Finding(str(revision), None, "", "unused-exception", sentence))
    return left
