"""The locks of ALTER TABLE, by subcommand."""

from collections.abc import Iterator, Sequence

from postgast import pg_query_pb2 as pg

from service.db.sql_defaults import constraints_of, differs_by_row, has
from service.db.sql_lock_modes import TakenLock, Work
from service.db.sql_statements import relation

WEAK = {
    pg.AT_ValidateConstraint: Work.SCAN,
    pg.AT_SetStatistics: Work.INSTANT,
    pg.AT_SetOptions: Work.INSTANT,
    pg.AT_ResetOptions: Work.INSTANT,
    pg.AT_ClusterOn: Work.INSTANT,
    pg.AT_DropCluster: Work.INSTANT,
}
TRIGGERS = frozenset(
    {
        pg.AT_EnableTrig,
        pg.AT_EnableAlwaysTrig,
        pg.AT_EnableReplicaTrig,
        pg.AT_DisableTrig,
        pg.AT_EnableTrigAll,
        pg.AT_DisableTrigAll,
        pg.AT_EnableTrigUser,
        pg.AT_DisableTrigUser,
    }
)
SLOW = {
    pg.AT_SetNotNull: Work.SCAN,  # Not where a valid CHECK or NOT NULL already proves it; SQL alone does not say.
    pg.AT_AlterColumnType: Work.REWRITE,
    pg.AT_SetExpression: Work.REWRITE,
    pg.AT_SetTableSpace: Work.REWRITE,
    pg.AT_SetLogged: Work.REWRITE,
    pg.AT_SetUnLogged: Work.REWRITE,
    pg.AT_SetAccessMethod: Work.REWRITE,
}
# Parameters of a table or index that are set beside readers and writers; the others stop them for an instant.
GENTLE_OPTIONS = frozenset({"fillfactor", "toast_tuple_target", "parallel_workers", "deduplicate_items"})
GENTLE_FAMILIES = ("autovacuum_", "vacuum_", "log_autovacuum_")
INDEXED = frozenset({pg.CONSTR_PRIMARY, pg.CONSTR_UNIQUE, pg.CONSTR_EXCLUSION})


def of_alter_table(node: pg.AlterTableStmt) -> Iterator[TakenLock]:
    name = relation(node.relation)
    for each in node.cmds:
        command = each.alter_table_cmd
        if command.subtype == pg.AT_AddColumn:
            yield from of_new_column(name, getattr(command, "def").column_def)
        elif command.subtype == pg.AT_AddConstraint:
            yield from of_new_constraint(name, getattr(command, "def").constraint)
        elif command.subtype == pg.AT_AttachPartition:
            yield TakenLock(name, "SHARE UPDATE EXCLUSIVE")
            part = getattr(command, "def").partition_cmd
            yield TakenLock(relation(part.name), "ACCESS EXCLUSIVE", Work.SCAN)
        elif command.subtype in {pg.AT_DetachPartition, pg.AT_DetachPartitionFinalize}:
            yield from of_detached(name, command)
        elif command.subtype in WEAK:
            yield TakenLock(name, "SHARE UPDATE EXCLUSIVE", WEAK[command.subtype])
        elif command.subtype in {pg.AT_SetRelOptions, pg.AT_ResetRelOptions}:
            yield TakenLock(name, of_options([each.def_elem for each in getattr(command, "def").list.items]))
        elif command.subtype in TRIGGERS:
            yield TakenLock(name, "SHARE ROW EXCLUSIVE")
        else:
            yield TakenLock(name, "ACCESS EXCLUSIVE", SLOW.get(command.subtype, Work.INSTANT))


def of_options(options: Sequence[pg.DefElem]) -> str:
    gentle = all(each.defname in GENTLE_OPTIONS or each.defname.startswith(GENTLE_FAMILIES) for each in options)
    return "SHARE UPDATE EXCLUSIVE" if gentle else "ACCESS EXCLUSIVE"


def of_new_column(name: str, column: pg.ColumnDef) -> Iterator[TakenLock]:
    work = Work.REWRITE if differs_by_row(column) else Work.INSTANT
    yield TakenLock(name, "ACCESS EXCLUSIVE", work)
    for constraint in constraints_of(column):
        if constraint.contype in INDEXED:
            yield TakenLock(name, "ACCESS EXCLUSIVE", Work.BUILD)
        elif constraint.contype == pg.CONSTR_CHECK:
            yield TakenLock(name, "ACCESS EXCLUSIVE", Work.SCAN)
        elif constraint.contype == pg.CONSTR_FOREIGN:
            # A column of nulls refers to nothing, so nothing is looked up.
            read = Work.SCAN if has(column, pg.CONSTR_DEFAULT) else Work.INSTANT
            yield TakenLock(name, "ACCESS EXCLUSIVE", read)
            yield TakenLock(relation(constraint.pktable), "SHARE ROW EXCLUSIVE", read)


def of_new_constraint(name: str, constraint: pg.Constraint) -> Iterator[TakenLock]:
    if constraint.contype == pg.CONSTR_FOREIGN:
        work = Work.INSTANT if constraint.skip_validation else Work.SCAN
        yield TakenLock(name, "SHARE ROW EXCLUSIVE", work)
        yield TakenLock(relation(constraint.pktable), "SHARE ROW EXCLUSIVE", work)
    elif constraint.contype in INDEXED:
        built = Work.INSTANT if constraint.indexname else Work.BUILD
        # A primary key also makes its columns NOT NULL, which is read from the rows.
        read = Work.SCAN if constraint.contype == pg.CONSTR_PRIMARY and constraint.indexname else built
        yield TakenLock(name, "ACCESS EXCLUSIVE", read)
    else:
        yield TakenLock(name, "ACCESS EXCLUSIVE", Work.INSTANT if constraint.skip_validation else Work.SCAN)


def of_detached(name: str, command: pg.AlterTableCmd) -> Iterator[TakenLock]:
    part = getattr(command, "def").partition_cmd
    gently = part.concurrent or command.subtype == pg.AT_DetachPartitionFinalize
    yield TakenLock(name, "SHARE UPDATE EXCLUSIVE" if gently else "ACCESS EXCLUSIVE")
    yield TakenLock(relation(part.name), "ACCESS EXCLUSIVE")
