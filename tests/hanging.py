"""A test that hangs ends with what pytest-timeout tells of its threads, and here: where each asyncio task waited."""

import asyncio
import traceback
from collections.abc import Generator, Iterator
from typing import Any

import pytest

TIMEOUT = "from pytest-timeout"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and TIMEOUT in str(call.excinfo.value):
        frames = (frame for frame, _ in traceback.walk_tb(call.excinfo.tb))
        loops = {loop for frame in frames if isinstance(loop := frame.f_locals.get("self"), asyncio.AbstractEventLoop)}
        for task in (task for loop in loops for task in asyncio.all_tasks(loop)):
            report.sections.append((f"where {task.get_name()} waited", "\n".join(awaited(task.get_coro()))))
    return report


def awaited(step: Any) -> Iterator[str]:
    """From the task's own coroutine down to the innermost one."""
    while step is not None:
        frame = next(filter(None, (getattr(step, name, None) for name in ("cr_frame", "ag_frame", "gi_frame"))), None)
        if frame is not None:
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        step = next(
            filter(None, (getattr(step, name, None) for name in ("cr_await", "ag_await", "gi_yieldfrom"))), None
        )
