"""Nothing is left out in silence: every skipped test says which command adds it, and a run ends with the list.

A skip's reason reads "why; add it with: command". One without a command is a failure.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import pytest

from tests.pooler import chosen_pooling

LEFT_OUT = "left out"
REMEDY = re.compile(r"^(?:Skipped: )?(?P<why>.+); add it with: (?P<command>.+)$", re.DOTALL)
BEYOND = "no pooler can change them: they have no service on the database, or are in PASSED_OVER of tests/left_out.py"
AGAIN = "untracked is the same to them as tracked: their statements are those of other tests (SAME_UNTRACKED of tests/left_out.py)"
# Modules, and folders of them, with a service on the database that are not worth their time a second and a third time.
PASSED_OVER = {
    "openapi": "the document of the API, and five thousand requests that it refuses",
    "test_backfills": "the direct address",
    "test_bench_run": "the benchmark starts its own service, without a pooler",
    "test_blob_sweep": "the object store",
    "test_branch_objects": "the object store, and processes that start",
    "test_branches": "the administrator's address",
    "test_cli_doors": "processes that start, which test_pooler_selftest does behind every kind of pooler",
    "test_cli_figures_exactness": "commands that speak HTTP",
    "test_cli_figures_recall": "commands that speak HTTP",
    "test_cli_search": "commands that speak HTTP",
    "test_direct_tls": "the direct address",
    "test_doctor": "brings poolers of its own",
    "test_documents_real_files": "what is read in files; that it is written is what test_documents_files says",
    "test_http_protocol": "what is no HTTP",
    "test_image": "processes that start",
    "test_migrate_commands": "the direct address, and processes that start",
    "test_operations_traces": "what is sent to a collector",
    "test_operations": "processes that start, and what they log",
    "test_pooler": "brings poolers of its own",
    "test_pooler_selftest": "brings poolers of its own",
    "test_sample": "loads thousands of documents by HTTP",
    "test_search_routes": "loads thousands of chunks to see which way the same statement takes",
    "test_upkeep_tables": "loads twenty thousand documents to see what the planner knows",
    "test_workers": "processes that start, and the limits of the server itself",
}
# Without tracking each statement is sent unprepared, and nothing else is different: one test of it is enough.
SAME_UNTRACKED = {
    "test_commit_tokens": "writes of test_documents",
    "test_documents_limits": "bodies that are cut off before anything is written",
    "test_operations_health": "parts that are away",
    "test_operations_loads": "pools that are full",
    "test_operations_metrics": "what is counted",
    "test_problems": "answers, and keys that are read as everywhere",
    "test_problems_outages": "parts that are away",
    "test_replica": "a replica, which has no pooler before it",
    "test_search_batch": "many of the searches of test_search_shapes",
    "test_search_contract": "requests that are refused, and the searches of test_search_shapes",
    "test_search_highlight": "what is made of texts that were found",
    "test_search_questions": "questions, which are one parameter of the statement",
    "test_search_recall": "the searches of test_search_shapes, again and exactly",
    "test_statistics": "the recount that every load of documents runs",
    "test_worker_kills": "processes that are killed in the work of test_worker",
}
LEFT = pytest.StashKey[dict[str, int]]()

SLOW = "it loads thousands of documents, for a minute or two; add it with: make test-all"
Test = TypeVar("Test", bound=Callable[..., Any])


def thorough(test: Test) -> Test:
    """What `make test` does without, if it is to take five minutes on two cores; CI runs it."""
    slow: Test = pytest.mark.timeout(600)(test)
    left_out: Test = pytest.mark.skipif(not os.environ.get("THOROUGH"), reason=SLOW)(slow)
    return left_out


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def refuse_silence(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome == "skipped" and not hasattr(report, "wasxfail") and not REMEDY.match(reason_of(report)):
        report.outcome = "failed"
        report.longrepr = (
            f"Skipped without saying which command adds the test: {reason_of(report)!r}. "
            'A reason reads "why; add it with: command" (tests/left_out.py).'
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_silence(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_silence(report)
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Through a pooler only what it can break is run again: the tests with a service on the stack's database."""
    if chosen_pooling() == "none":
        return
    reasons = [why_not(item) for item in items]
    items[:] = [item for item, reason in zip(items, reasons, strict=True) if reason is None]
    left: dict[str, int] = Counter(reason for reason in reasons if reason is not None)
    config.stash[LEFT] = left
    if hasattr(config, "workeroutput"):
        config.workeroutput[LEFT_OUT] = dict(left)


def why_not(item: pytest.Item) -> str | None:
    """The reason for which it is not run through the chosen pooler."""
    names: Sequence[str] = getattr(item, "fixturenames", ())
    places = {item.path.stem, item.path.parent.name}
    if "pooler" not in names or not PASSED_OVER.keys().isdisjoint(places):
        return BEYOND
    if chosen_pooling() == "untracked" and not SAME_UNTRACKED.keys().isdisjoint(places):
        return AGAIN
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker process of xdist has collected, and left out, the same tests."""
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get(LEFT_OUT, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", ()))
    beyond = terminalreporter.config.stash.get(LEFT, {})
    if not reasons and not beyond:
        return
    terminalreporter.write_sep("=", "left out")
    for reason, number in reasons.most_common():
        found = REMEDY.match(reason)
        why, command = (found["why"], found["command"]) if found else (reason, "nothing: that is a mistake")
        terminalreporter.write_line(f"{number:4d}  {why}\n      add with: {command}")
    for reason, number in beyond.items():
        command = "make test" if reason == BEYOND else "TEST_POOLER=tracked make test"
        terminalreporter.write_line(f"{number:4d}  {reason}\n      add with: {command}")
