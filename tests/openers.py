"""A connection that nobody closed fails whatever test runs when it is collected: its warning says who opened it, and in which."""

import asyncio
import os
import traceback
from typing import Any

import pytest
from asyncpg.connection import Connection

opened = Connection.__init__


def noted(self: Any, *parts: Any, **more: Any) -> None:
    opened(self, *parts, **more)
    task = asyncio.current_task()
    stack = "".join(traceback.format_stack(limit=12)[:-1])
    self._source_traceback = f"{os.environ.get('PYTEST_CURRENT_TEST')}, {task and task.get_coro()}\n{stack}"


def pytest_configure(config: pytest.Config) -> None:  # noqa: ARG001
    Connection.__init__ = noted
