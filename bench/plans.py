"""A plan of Postgres as lines that can be read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def plan_lines(plans: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The nodes of the search statement, with what each took."""
    yield "The plan of a hybrid search, milliseconds and rows:"
    yield ""
    yield "```text"
    for plan in plans:
        yield from node_lines(plan["Plan"], 0)
        yield f"planning {plan.get('Planning Time', 0):.2f} ms, execution {plan.get('Execution Time', 0):.2f} ms"
    yield "```"


def node_lines(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    on = node.get("Index Name") or node.get("Relation Name") or node.get("CTE Name") or node.get("Function Name") or ""
    if node.get("Actual Loops"):
        yield (
            f"{'  ' * depth}{node['Node Type']} {on}".rstrip()
            + f"  {node.get('Actual Total Time', 0):.2f} ms, {node.get('Actual Rows', 0):g} rows x {node['Actual Loops']}"
        )
    for child in node.get("Plans", []):
        yield from node_lines(child, depth + 1)
