"""Rules on what a migration's file says in Python."""

import ast
from collections.abc import Iterator
from pathlib import Path

from service.db.lint.findings import Said
from service.db.lint.revisions import Revision

# With these a migration can do one thing to a database and show another to whoever reads its SQL.
ONLINE_ONLY = frozenset(
    {"get_bind", "is_offline_mode", "as_sql", "connection", "create_engine", "Session", "exec_driver_sql"}
)


def of_file(revision: Revision, backfills: Path) -> Said:
    if "TODO" in revision.text:
        yield "unfinished", "a TODO is left in the file: fill it in"
    used = sorted(names(revision.source) & ONLINE_ONLY)
    if used:
        yield "hidden-statement", f"with {used[0]} it may do what its SQL does not show: use op alone"
    if revision.phase == "contract":
        yield from of_contract(revision, backfills)
    if revision.phase == "expand" and len(revision.statements) > len(revision.way_back) == 2:  # noqa: PLR2004  BEGIN, COMMIT
        yield "no-way-back", "expand can be taken back, and downgrade() does nothing: undo what upgrade() does"


def names(tree: ast.AST) -> set[str]:
    found = (each.id if isinstance(each, ast.Name) else getattr(each, "attr", None) for each in ast.walk(tree))
    return {name for name in found if name is not None}


def of_contract(revision: Revision, backfills: Path) -> Said:
    if not revision.depends_on:
        yield (
            "contract-without-depends-on",
            "nothing keeps it from running before the expand migration it follows: name that one in depends_on",
        )
    call = gate_call(revision.source)
    if call is None:
        yield (
            "contract-without-gate",
            (
                "nothing keeps it from running while an older release lives or a backfill is unfinished: the first line of"
                " upgrade() is gate(op, oldest_release=…, backfills=[…]) of service.db.gates"
            ),
        )
        return
    for name in waited_for(call):
        if not (backfills / f"{name}.py").exists():
            yield (
                "unknown-backfill",
                f"the gate waits for the backfill {name}, and migrations/backfills has no {name}.py",
            )


def gate_call(tree: ast.Module) -> ast.Call | None:
    """The gate that nothing comes before, and nothing can step around."""
    imported = any(
        isinstance(each, ast.ImportFrom)
        and each.module == "service.db.gates"
        and any(n.name == "gate" for n in each.names)
        for each in tree.body
    )
    upgrades = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "upgrade"]
    body = upgrades[-1].body if upgrades else []
    if ast.get_docstring(upgrades[-1]) if upgrades else None:
        body = body[1:]
    first = body[0] if body else None
    if imported and isinstance(first, ast.Expr) and isinstance(first.value, ast.Call):
        function = first.value.func
        if isinstance(function, ast.Name) and function.id == "gate":
            return first.value
    return None


def waited_for(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg == "backfills" and isinstance(keyword.value, ast.List | ast.Tuple):
            for each in keyword.value.elts:
                if isinstance(each, ast.Constant):
                    yield str(each.value)
