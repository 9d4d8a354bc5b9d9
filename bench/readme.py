"""The table in the README, which nobody writes by hand."""

from pathlib import Path
from typing import Any

from bench.failures import BenchError
from bench.markdown import counted, ms, rate, share, table
from bench.report import LATENCIES, ndcg
from bench.result import Result

BEGIN, END = "<!-- made by: python -m bench report --readme -->", "<!-- end of what is made -->"


def block(result: Result) -> str:
    """Of a run that was interrupted what there is, and that it was."""
    found = result.found
    machine, dataset = found["machine"], found["dataset"]
    noise = max(figures["p50"]["apart"] for figures in found["noise"].values())
    said = (
        f"{dataset['documents']:,} documents, {dataset['queries']:,} distinct queries, {machine['cores']} cores "
        f"({machine['processor']}), revision {(found['revision']['git'] or 'unknown')[:8]}; milliseconds. "
        f"The same load twice has a p50 {noise:.1%} apart."
        + ("" if found.get("complete") else " **The run was interrupted**: open loops and writes are missing here.")
    )
    return "\n\n".join([BEGIN, said, table(HEADINGS, [*loads(found), *steady(found), *writing(found)]), END])


HEADINGS = ["load", "p50", "p95", "p99", "p99.9", "a second", "recall@10", "nDCG@10 (exact)", "failures"]


def loads(found: dict[str, Any]) -> list[list[object]]:
    return [
        row(load["label"], load, per_second=load["per_second"], failures=load["failures"]) for load in found["loads"]
    ]


def steady(found: dict[str, Any]) -> list[list[object]]:
    return [
        row(
            f"hybrid, {each['embedding']}, open, 80 % of the knee",
            each,
            per_second=each["rate"],
            failures=each["failures"],
        )
        for each in found.get("steady", [])
    ]


def writing(found: dict[str, Any]) -> list[list[object]]:
    part = found.get("writing")
    if not part:
        return []
    label = f"hybrid, cold, open, beside {part['writes_per_second']:g} writes a second"
    each = part["while_writing"]
    return [row(label, each, per_second=part["rate"], failures=each["failures"])]


def row(label: str, each: dict[str, Any], *, per_second: float, failures: dict[str, int]) -> list[object]:
    latencies = (ms(each["latency"].get(name)) for name in LATENCIES)
    return [label, *latencies, rate(per_second), share(each.get("recall")), ndcg(each), counted(failures)]


def put_into(text: str, block_: str) -> str:
    """The text with the block where the last one was; raises BenchError where it has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"The README has no {BEGIN} … {END}.")
    return before + block_ + after


def write_readme(readme: Path, result: Result) -> None:
    readme.write_text(put_into(readme.read_text(encoding="utf-8"), block(result)), encoding="utf-8")
