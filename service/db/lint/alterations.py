"""Rules on ALTER TABLE."""

from postgast import pg_query_pb2 as pg

from service.db.lint.findings import Looked, Said
from service.db.sql_defaults import constraints_of, differs_by_row, has, type_name
from service.db.sql_locks_alter import INDEXED
from service.db.sql_statements import relation, words

LOOSENS = frozenset({pg.CONSTR_CHECK, pg.CONSTR_FOREIGN, pg.CONSTR_EXCLUSION})
BY_NAME = {"ck": pg.CONSTR_CHECK, "fk": pg.CONSTR_FOREIGN}  # by the naming convention of the tables


def alterations(seen: Looked) -> Said:
    if seen.statement.kind != "alter_table_stmt":
        return
    node = seen.statement.node
    table = relation(node.relation)
    for each in node.cmds:
        command = each.alter_table_cmd
        if command.subtype == pg.AT_AddColumn:
            yield from json(getattr(command, "def").column_def)
        if table in seen.new:
            continue
        if command.subtype == pg.AT_AddColumn:
            yield from new_column(table, getattr(command, "def").column_def)
        elif command.subtype == pg.AT_AddConstraint:
            yield from new_constraint(seen, table, getattr(command, "def").constraint)
        else:
            yield from other(seen, table, command)


def json(column: pg.ColumnDef) -> Said:
    if type_name(column) == "json":
        yield "json-column", f"column {column.colname} is json, which has no equality and no index: make it jsonb"


def new_column(table: str, column: pg.ColumnDef) -> Said:
    name = f"{table}.{column.colname}"
    why = differs_by_row(column)
    if why:
        yield (
            "volatile-default",
            (
                f"{why} for every row that is there, so the whole of {table} is written anew while nobody reads or writes:"
                f" add {column.colname} without it, set the default afterwards, and backfill"
            ),
        )
    if has(column, pg.CONSTR_NOTNULL) and not has(column, pg.CONSTR_DEFAULT, pg.CONSTR_IDENTITY, pg.CONSTR_GENERATED):
        yield (
            "set-not-null",
            f"{name} is NOT NULL without a default, which fails on rows that are there: add it nullable",
        )
    for constraint in constraints_of(column):
        if constraint.contype in INDEXED:
            yield from blocking_index(table)
        elif constraint.contype == pg.CONSTR_CHECK:
            yield from unvalidated(table, "CHECK")
        elif constraint.contype == pg.CONSTR_FOREIGN:
            yield from unvalidated(table, "foreign key")


def new_constraint(seen: Looked, table: str, constraint: pg.Constraint) -> Said:
    if constraint.contype in INDEXED:
        if not constraint.indexname:
            yield from blocking_index(table)
    elif constraint.contype == pg.CONSTR_NOTNULL and not constraint.skip_validation:
        yield from not_null(table, ", ".join(words(constraint.keys)))
    elif not constraint.skip_validation:
        yield from unvalidated(table, "CHECK" if constraint.contype == pg.CONSTR_CHECK else "foreign key")
    columns = set(words(constraint.fk_attrs if constraint.contype == pg.CONSTR_FOREIGN else constraint.keys))
    harmless = constraint.contype in {pg.CONSTR_FOREIGN, pg.CONSTR_UNIQUE} and seen.unwritten(table, columns)
    if seen.expanding and not harmless:
        yield from too_early(table, f"constraint {constraint.conname}".strip())


def too_early(table: str, what: str) -> Said:
    yield (
        "constraint-in-expand",
        (
            f"{what} on {table} binds every new row at once, also with NOT VALID, so the release that still runs may have its"
            " writes refused: it belongs in a contract migration, behind a gate"
        ),
    )


def unvalidated(table: str, what: str) -> Said:
    yield (
        "constraint-not-valid",
        (
            f"this {what} is checked against every row of {table} while writers wait: add it NOT VALID, and VALIDATE it in"
            " a transaction of its own"
        ),
    )


def blocking_index(table: str) -> Said:
    yield (
        "index-not-concurrent",
        (
            f"it builds an index on {table} while writers wait: CREATE UNIQUE INDEX CONCURRENTLY in a revision of its own, then"
            " ADD CONSTRAINT … USING INDEX (an exclusion constraint has no such way)"
        ),
    )


def not_null(table: str, column: str) -> Said:
    yield (
        "set-not-null",
        (
            f"{table}.{column} NOT NULL reads the whole table while nobody reads or writes: first a CHECK ({column} IS NOT NULL)"
            " NOT VALID, then VALIDATE it, each in a transaction of its own"
        ),
    )


def other(seen: Looked, table: str, command: pg.AlterTableCmd) -> Said:
    kind = command.subtype
    if kind == pg.AT_SetNotNull:
        if (table, command.name) not in seen.known.proven:
            yield from not_null(table, command.name)
        if seen.expanding:
            yield from too_early(table, f"NOT NULL of {command.name}")
    elif kind == pg.AT_AlterColumnType:
        yield (
            "type-change",
            (
                f"the type of {table}.{command.name} changes in place, which may write the whole table anew and breaks cached"
                " plans behind a pooler: add a new column, write both, backfill, switch, drop the old one"
            ),
        )
    elif kind in {pg.AT_EnableRowSecurity, pg.AT_ForceRowSecurity} and seen.expanding:
        yield (
            "constraint-in-expand",
            f"row security hides rows of {table} from the release that still runs: it belongs in a contract migration",
        )
    elif seen.expanding:
        yield from removed(seen, table, command)
    if command.behavior == pg.DROP_CASCADE:
        yield "cascade", "CASCADE drops what nobody named here: name each thing that goes"


def removed(seen: Looked, table: str, command: pg.AlterTableCmd) -> Said:
    kind = command.subtype
    if kind == pg.AT_DropColumn:
        yield (
            "removal-in-expand",
            f"the release that still runs uses {table}.{command.name}: drop it in a contract migration",
        )
    elif kind == pg.AT_ColumnDefault and not command.HasField("def"):
        yield (
            "removal-in-expand",
            f"the release that still runs may rely on the default of {table}.{command.name}: drop it in a contract migration",
        )
    elif kind == pg.AT_DropConstraint:
        prefix = BY_NAME.get(command.name.split("_")[0])
        if seen.known.kinds.get((table, command.name), prefix) not in LOOSENS:
            yield (
                "removal-in-expand",
                (
                    f"the release that still runs may rely on {command.name}, as ON CONFLICT does on a key; only a CHECK or a"
                    " foreign key may go in expand, because that only loosens"
                ),
            )
