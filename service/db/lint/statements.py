"""Rules on every other statement."""

from collections.abc import Sequence

from postgast import pg_query_pb2 as pg

from service.db.lint.alterations import json, too_early
from service.db.lint.findings import Looked, Said
from service.db.sql_locks import UnknownStatementError, of_statement
from service.db.sql_statements import Statement, dotted, every, relation, words

SEEN_BY_CODE = {
    pg.OBJECT_COLUMN: "column",
    pg.OBJECT_TABLE: "table",
    pg.OBJECT_VIEW: "view",
    pg.OBJECT_MATVIEW: "materialized view",
    pg.OBJECT_FUNCTION: "function",
    pg.OBJECT_SEQUENCE: "sequence",
    pg.OBJECT_SCHEMA: "schema",
    pg.OBJECT_TYPE: "type",
    pg.OBJECT_ATTRIBUTE: "attribute",
}
WRITES = ("update_stmt", "delete_stmt", "merge_stmt", "truncate_stmt", "copy_stmt", "create_table_as_stmt")
OPAQUE = ("do_stmt", "call_stmt", "execute_stmt", "prepare_stmt")
LONGEST_LOCK_TIMEOUT = 5_000  # ms
HARMLESS_CALLS = frozenset({"set_config", "pg_advisory_xact_lock"})


def renames(seen: Looked) -> Said:
    node = seen.statement.node
    if seen.statement.kind == "rename_stmt" and node.rename_type in SEEN_BY_CODE:
        what = SEEN_BY_CODE[node.rename_type]
        if relation(node.relation) not in seen.new:
            yield (
                "rename",
                (
                    f"a {what} gets another name, and every running release still uses one of the two: make a new one, write"
                    " both, backfill, and drop the old one in a contract migration"
                ),
            )
    if seen.statement.kind == "alter_object_schema_stmt":
        yield "rename", "it moves to another schema, where no running release looks for it"


def enums(seen: Looked) -> Said:
    if seen.statement.kind == "create_enum_stmt":
        yield "enum-type", "a value of an enum can never be removed again: make the column text with a CHECK"
    if seen.statement.kind == "alter_enum_stmt":
        if seen.statement.node.old_val:
            yield "rename", "an enum's value gets another name, and every running release still uses one of the two"
        elif len(acting(seen.revision.statements)) > 1:
            yield (
                "enum-value-alone",
                "a new enum value cannot be used in its own transaction: give it a revision of its own",
            )


def columns(seen: Looked) -> Said:
    if seen.statement.kind == "create_stmt":
        for each in seen.statement.node.table_elts:
            if each.HasField("column_def"):
                yield from json(each.column_def)


def removals(seen: Looked) -> Said:
    if seen.statement.kind != "drop_stmt":
        return
    node = seen.statement.node
    names = ", ".join(dropped(each) for each in node.objects)
    if node.behavior == pg.DROP_CASCADE:
        yield "cascade", "CASCADE drops what nobody named here: name each thing that goes"
    if node.remove_type == pg.OBJECT_INDEX:
        if not node.concurrent:
            yield (
                "index-not-concurrent",
                f"dropping {names} waits for every reader of its table, and they for it: CONCURRENTLY",
            )
        if seen.expanding and not rebuilt(seen):
            yield "removal-in-expand", f"the release that still runs may need {names}: drop it in a contract migration"
    elif seen.expanding:
        yield "removal-in-expand", f"the release that still runs may use {names}: drop it in a contract migration"


def dropped(named: pg.Node) -> str:
    kind = named.WhichOneof("node")
    if kind == "list":
        return dotted(named.list.items)
    if kind == "object_with_args":
        return dotted(named.object_with_args.objname)
    return dotted(named.type_name.names) if kind == "type_name" else str(named.string.sval)


def rebuilt(seen: Looked) -> bool:
    """What an interrupted build left, on the way to building it again."""
    made = {
        each.node.idxname for each in seen.revision.statements if each.kind == "index_stmt" and each.node.concurrent
    }
    dropped = {dotted(each.list.items) for each in seen.statement.node.objects}
    return dropped <= made and seen.statement.node.missing_ok


def indexes(seen: Looked) -> Said:
    if seen.statement.kind != "index_stmt":
        return
    node, table = seen.statement.node, relation(seen.statement.node.relation)
    if table in seen.new:
        return
    if not node.concurrent:
        yield (
            "index-not-concurrent",
            f"building {node.idxname} stops every writer of {table}: CREATE INDEX CONCURRENTLY",
        )
    else:
        yield from concurrent_index(seen, table)
    indexed = {each.index_elem.name for each in node.index_params}
    if node.unique and seen.expanding and (node.nulls_not_distinct or not seen.unwritten(table, indexed)):
        yield from too_early(table, f"unique index {node.idxname}")


def concurrent_index(seen: Looked, table: str) -> Said:
    name = seen.statement.node.idxname
    before = seen.revision.statements[: seen.revision.statements.index(seen.statement)]
    if table in seen.known.partitioned:
        yield (
            "concurrent-index",
            f"{table} is partitioned, where Postgres builds no index concurrently: one for each partition",
        )
    if seen.in_transaction:
        yield "concurrent-index", "CONCURRENTLY is refused inside a transaction: op.get_context().autocommit_block()"
    if not any(drops(each, name) for each in before):
        yield (
            "leftover-index",
            (
                f"an interrupted build leaves {name} invalid, and the next run fails on it or keeps it: DROP INDEX CONCURRENTLY"
                " IF EXISTS first"
            ),
        )
    others = [each for each in acting(seen.revision.statements) if each != seen.statement and not drops(each, name)]
    if others:
        yield "index-with-others", f"a build may fail and start again, so it stands alone: move `{others[0]}` elsewhere"


def drops(statement: Statement, index: str) -> bool:
    if statement.kind != "drop_stmt" or statement.node.remove_type != pg.OBJECT_INDEX:
        return False
    named = index in {dotted(each.list.items) for each in statement.node.objects}
    return named and bool(statement.node.concurrent and statement.node.missing_ok)


def acting(statements: Sequence[Statement]) -> list[Statement]:
    """Without settings and the borders of transactions."""
    return [each for each in statements if each.kind not in {"transaction_stmt", "variable_set_stmt"}]


def data(seen: Looked) -> Said:
    node = seen.statement.node
    moving = seen.statement.kind in WRITES
    if seen.statement.kind == "insert_stmt":
        moving = not node.select_stmt.select_stmt.values_lists
    if seen.statement.kind == "select_stmt":
        below = [each for each in every(node) if each is not node]
        moving = any(isinstance(each, pg.UpdateStmt | pg.DeleteStmt | pg.InsertStmt | pg.MergeStmt) for each in below)
        called = {words(each.funcname)[-1] for each in below if isinstance(each, pg.FuncCall)} - HARMLESS_CALLS
        if called and not moving:
            yield (
                "hidden-statement",
                f"what {min(called)}() does cannot be read here: write the statements themselves",
            )
    if moving:
        yield (
            "data-change",
            (
                "rows change in the transaction of a migration, which holds their locks until its end: write a backfill in"
                " migrations/backfills"
            ),
        )
    if seen.statement.kind in OPAQUE:
        yield "hidden-statement", "what it does cannot be read here: write the statements themselves"


def timeouts(seen: Looked) -> Said:
    node = seen.statement.node
    if seen.statement.kind != "variable_set_stmt" or node.name != "lock_timeout":
        return
    if any(each.kind == "index_stmt" and each.node.concurrent for each in seen.revision.statements):
        return  # Whoever waits for a concurrent build makes nobody wait.
    value = node.args[0].a_const if node.args else None
    if value is None or not 0 < milliseconds(value) <= LONGEST_LOCK_TIMEOUT:
        yield "lock-timeout", "a statement that waits for its lock makes everybody wait: leave lock_timeout as it is"


def milliseconds(value: pg.A_Const) -> float:
    units = {"": 1, "ms": 1, "s": 1_000, "min": 60_000}
    if not value.HasField("sval"):
        return float(value.ival.ival)
    number = value.sval.sval.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    return float(number or 0) * units.get(value.sval.sval.strip()[len(number) :].strip(), 0)


def unknown(seen: Looked) -> Said:
    if seen.statement.kind in {*WRITES, *OPAQUE}:
        return
    try:
        of_statement(seen.statement)
    except UnknownStatementError:
        yield "unknown-statement", "nobody has said yet what this kind of statement locks: add it to db/sql_locks.py"


RULES = (renames, enums, columns, removals, indexes, data, timeouts, unknown)
