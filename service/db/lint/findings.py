"""What the linter says, and what the rules know while they look at a statement."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from postgast import pg_query_pb2 as pg

from service.db.lint.revisions import Revision
from service.db.sql_statements import Statement, relation, words

Said: TypeAlias = Iterator[tuple[str, str]]  # The name of a rule, and a sentence.


@dataclass(frozen=True, slots=True)
class Finding:
    revision: str
    place: int | None
    statement: str
    rule: str
    sentence: str

    def __str__(self) -> str:
        where = f"statement {self.place}, `{self.statement}`: " if self.place else ""
        return f"{self.revision}: {where}{self.sentence} [{self.rule}]"


@dataclass
class Known:
    """What the history has left behind up to the statement that is looked at."""

    partitioned: set[str] = field(default_factory=set)
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)  # of a constraint, by table and name
    promises: dict[tuple[str, str], str] = field(default_factory=dict)  # a CHECK (column IS NOT NULL): its column
    proven: set[tuple[str, str]] = field(default_factory=set)  # (table, column) without a null
    added: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # by revision: nullable columns

    def note(self, statement: Statement, revision: Revision) -> None:
        node = statement.node
        if statement.kind == "create_stmt":
            if node.HasField("partspec"):
                self.partitioned.add(relation(node.relation))
            for each in node.table_elts:
                if each.HasField("constraint"):
                    self.note_constraint(relation(node.relation), each.constraint)
                elif each.HasField("column_def"):
                    for nested in each.column_def.constraints:
                        self.note_constraint(relation(node.relation), nested.constraint)
        if statement.kind == "alter_table_stmt":
            for each in node.cmds:
                self.note_command(relation(node.relation), each.alter_table_cmd, revision)

    def note_command(self, table: str, command: pg.AlterTableCmd, revision: Revision) -> None:
        if command.subtype == pg.AT_AddConstraint:
            self.note_constraint(table, getattr(command, "def").constraint)
        elif command.subtype == pg.AT_AddColumn:
            column = getattr(command, "def").column_def
            if not any(each.constraint.contype == pg.CONSTR_DEFAULT for each in column.constraints):
                self.added.setdefault(revision.name, set()).add((table, column.colname))
        elif command.subtype == pg.AT_ValidateConstraint and (table, command.name) in self.promises:
            self.proven.add((table, self.promises[table, command.name]))

    def note_constraint(self, table: str, constraint: pg.Constraint) -> None:
        self.kinds[table, constraint.conname] = constraint.contype
        test = constraint.raw_expr.null_test
        if constraint.contype == pg.CONSTR_CHECK and test.nulltesttype == pg.IS_NOT_NULL:
            column = words(test.arg.column_ref.fields)[-1] if test.arg.column_ref.fields else ""
            self.promises[table, constraint.conname] = column
            if not constraint.skip_validation:
                self.proven.add((table, column))


@dataclass(frozen=True)
class Looked:
    """A statement, where it stands, and what is known there. `new` are the tables of this revision: nobody uses them yet."""

    statement: Statement
    revision: Revision
    known: Known
    new: frozenset[str]
    in_transaction: bool

    @property
    def expanding(self) -> bool:
        return self.revision.phase != "contract"

    def unwritten(self, table: str, columns: set[str]) -> bool:
        """Whether one of the columns is so new, nullable and without default, that the old release leaves it null."""
        names = (self.revision.name, *self.revision.parents)
        return any((table, column) in self.known.added.get(name, ()) for name in names for column in columns)


Rule: TypeAlias = Callable[[Looked], Said]
