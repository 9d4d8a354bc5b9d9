"""Which locks a statement takes, read from its SQL: nothing is run.

What SQL alone does not say: a foreign key that is dropped or validated, or goes with its table, locks the other table too;
CASCADE locks what it finds, a materialized view what it reads.
"""

from collections.abc import Callable, Iterator, Sequence

from google.protobuf.message import Message
from postgast import pg_query_pb2 as pg

from service.db.sql_lock_modes import LETS, TakenLock, Work, strongest
from service.db.sql_locks_alter import of_alter_table
from service.db.sql_statements import Statement, dotted, every, relation, statements_of, tables_in
from service.domain.errors import ServiceError

GENTLE, FULL = "SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"

# Catalogs and settings only: nothing that a request could meet.
NO_LOCK = frozenset(
    {
        "alter_default_privileges_stmt",
        "alter_enum_stmt",
        "alter_extension_stmt",
        "alter_function_stmt",
        "alter_owner_stmt",
        "alter_role_set_stmt",
        "alter_role_stmt",
        "alter_seq_stmt",
        "checkpoint_stmt",
        "composite_type_stmt",
        "create_domain_stmt",
        "create_enum_stmt",
        "create_extension_stmt",
        "create_function_stmt",
        "create_role_stmt",
        "create_schema_stmt",
        "create_seq_stmt",
        "define_stmt",
        "discard_stmt",
        "grant_role_stmt",
        "notify_stmt",
        "transaction_stmt",
        "variable_set_stmt",
        "variable_show_stmt",
    }
)


class UnknownStatementError(ServiceError):
    """Nobody has said yet which locks this kind of statement takes."""


def locks_of(sql: str) -> Sequence[TakenLock]:
    """Of one statement or a script: for each relation its strongest lock, and the work that is done under it.

    Raises UnreadableSqlError and UnknownStatementError.
    """
    return strongest([lock for statement in statements_of(sql) for lock in of_statement(statement)])


def of_statement(statement: Statement) -> Sequence[TakenLock]:
    """Raises UnknownStatementError."""
    if statement.kind in NO_LOCK:
        return ()
    take = TAKES.get(statement.kind)
    if take is None:
        raise UnknownStatementError(f"which locks it takes is not known: {statement}")
    return strongest(list(take(statement.node)))


def of_index(node: pg.IndexStmt) -> Iterator[TakenLock]:
    yield TakenLock(relation(node.relation), GENTLE if node.concurrent else "SHARE", Work.BUILD)


def of_drop(node: pg.DropStmt) -> Iterator[TakenLock]:
    mode = GENTLE if node.concurrent else FULL
    for each in node.objects:
        name = dotted(each.list.items)
        if node.remove_type == pg.OBJECT_INDEX:
            yield TakenLock(name, mode)
            yield TakenLock(f"the table of {name}", mode)
        elif node.remove_type in {pg.OBJECT_TRIGGER, pg.OBJECT_POLICY, pg.OBJECT_RULE}:
            yield TakenLock(dotted(list(each.list.items)[:-1]), mode)
        elif node.remove_type in {pg.OBJECT_TABLE, pg.OBJECT_VIEW, pg.OBJECT_MATVIEW, pg.OBJECT_SEQUENCE}:
            yield TakenLock(name, mode)


def of_rename(node: pg.RenameStmt) -> Iterator[TakenLock]:
    if node.HasField("relation"):
        yield TakenLock(relation(node.relation), GENTLE if node.rename_type == pg.OBJECT_INDEX else FULL)


def of_moved(node: pg.AlterObjectSchemaStmt) -> Iterator[TakenLock]:
    if node.HasField("relation"):
        yield TakenLock(relation(node.relation), FULL)


def of_create_table(node: pg.CreateStmt) -> Iterator[TakenLock]:
    """On the others: the new table is seen by nobody before the commit."""
    own = relation(node.relation)
    for parent in node.inh_relations:
        yield TakenLock(relation(parent.range_var), FULL if node.HasField("partbound") else GENTLE)
    for each in every(node):
        if isinstance(each, pg.Constraint) and each.contype == pg.CONSTR_FOREIGN and relation(each.pktable) != own:
            yield TakenLock(relation(each.pktable), "SHARE ROW EXCLUSIVE")
        if isinstance(each, pg.TableLikeClause):
            yield TakenLock(relation(each.relation), "ACCESS SHARE")


def of_view(node: pg.ViewStmt) -> Iterator[TakenLock]:
    if node.replace:
        yield TakenLock(relation(node.view), FULL)
    yield from reading(node.query)


def of_table_as(node: pg.CreateTableAsStmt) -> Iterator[TakenLock]:
    yield from reading(node.query, Work.ROWS)


def of_policy(node: pg.CreatePolicyStmt | pg.AlterPolicyStmt) -> Iterator[TakenLock]:
    yield TakenLock(relation(node.table), FULL)
    for expression in (node.qual, node.with_check):
        yield from reading(expression)


def of_trigger(node: pg.CreateTrigStmt) -> Iterator[TakenLock]:
    yield TakenLock(relation(node.relation), "SHARE ROW EXCLUSIVE")


def of_rule(node: pg.RuleStmt) -> Iterator[TakenLock]:
    yield TakenLock(relation(node.relation), FULL)


def of_comment(node: pg.CommentStmt) -> Iterator[TakenLock]:
    if node.objtype in {pg.OBJECT_TABLE, pg.OBJECT_VIEW, pg.OBJECT_INDEX}:
        yield TakenLock(dotted(node.object.list.items), GENTLE)
    elif node.objtype in {pg.OBJECT_COLUMN, pg.OBJECT_TABCONSTRAINT, pg.OBJECT_TRIGGER, pg.OBJECT_POLICY}:
        yield TakenLock(dotted(list(node.object.list.items)[:-1]), GENTLE)


def of_statistics(node: pg.CreateStatsStmt) -> Iterator[TakenLock]:
    for each in node.relations:
        yield TakenLock(relation(each.range_var), GENTLE)


def of_write(node: pg.InsertStmt | pg.UpdateStmt | pg.DeleteStmt | pg.MergeStmt) -> Iterator[TakenLock]:
    written = relation(node.relation)
    yield TakenLock(written, "ROW EXCLUSIVE", Work.ROWS)
    for name in sorted(tables_in(node) - {written}):
        yield TakenLock(name, "ACCESS SHARE", Work.ROWS)


def reading(node: Message, work: Work = Work.INSTANT) -> Iterator[TakenLock]:
    for name in sorted(tables_in(node)):
        yield TakenLock(name, "ACCESS SHARE", work)


def of_select(node: pg.SelectStmt) -> Iterator[TakenLock]:
    yield from reading(node, Work.ROWS)
    for each in every(node):
        if isinstance(each, pg.InsertStmt | pg.UpdateStmt | pg.DeleteStmt | pg.MergeStmt):
            yield from of_write(each)
    if node.locking_clause:
        for each in node.from_clause:
            if each.HasField("range_var"):
                yield TakenLock(relation(each.range_var), "ROW SHARE", Work.ROWS)


def of_truncate(node: pg.TruncateStmt) -> Iterator[TakenLock]:
    for each in node.relations:
        yield TakenLock(relation(each.range_var), FULL)


def of_lock(node: pg.LockStmt) -> Iterator[TakenLock]:
    modes = tuple(LETS)  # In the order of their numbers in Postgres, from 1.
    for each in node.relations:
        yield TakenLock(relation(each.range_var), modes[node.mode - 1])


def of_vacuum(node: pg.VacuumStmt) -> Iterator[TakenLock]:
    options = {each.def_elem.defname for each in node.options}
    for each in node.rels:
        name = relation(each.vacuum_relation.relation)
        work = Work.REWRITE if "full" in options else Work.SCAN if node.is_vacuumcmd else Work.ROWS
        yield TakenLock(name, FULL if work is Work.REWRITE else GENTLE, work)


def of_cluster(node: pg.ClusterStmt) -> Iterator[TakenLock]:
    yield TakenLock(relation(node.relation), FULL, Work.REWRITE)


def of_refresh(node: pg.RefreshMatViewStmt) -> Iterator[TakenLock]:
    yield (
        TakenLock(relation(node.relation), "EXCLUSIVE", Work.SCAN)
        if node.concurrent
        else TakenLock(relation(node.relation), FULL, Work.REWRITE)
    )


def of_reindex(node: pg.ReindexStmt) -> Iterator[TakenLock]:
    gently = any(each.def_elem.defname == "concurrently" for each in node.params)
    name = relation(node.relation)
    table = f"the table of {name}" if node.kind == pg.REINDEX_OBJECT_INDEX else name
    yield TakenLock(table, GENTLE if gently else "SHARE", Work.BUILD)
    if node.kind == pg.REINDEX_OBJECT_INDEX:
        yield TakenLock(name, GENTLE if gently else FULL, Work.BUILD)


def of_grant(node: pg.GrantStmt) -> Iterator[TakenLock]:
    if node.objtype == pg.OBJECT_TABLE:
        for each in node.objects:
            if each.HasField("range_var"):
                yield TakenLock(relation(each.range_var), "ACCESS SHARE")


TAKES: dict[str, Callable[..., Iterator[TakenLock]]] = {
    "alter_table_stmt": of_alter_table,
    "alter_object_schema_stmt": of_moved,
    "alter_policy_stmt": of_policy,
    "cluster_stmt": of_cluster,
    "comment_stmt": of_comment,
    "create_policy_stmt": of_policy,
    "create_stats_stmt": of_statistics,
    "create_stmt": of_create_table,
    "create_table_as_stmt": of_table_as,
    "create_trig_stmt": of_trigger,
    "delete_stmt": of_write,
    "drop_stmt": of_drop,
    "grant_stmt": of_grant,
    "index_stmt": of_index,
    "insert_stmt": of_write,
    "lock_stmt": of_lock,
    "merge_stmt": of_write,
    "refresh_mat_view_stmt": of_refresh,
    "reindex_stmt": of_reindex,
    "rename_stmt": of_rename,
    "rule_stmt": of_rule,
    "select_stmt": of_select,
    "truncate_stmt": of_truncate,
    "update_stmt": of_write,
    "vacuum_stmt": of_vacuum,
    "view_stmt": of_view,
}
