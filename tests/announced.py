"""A run says first where it takes place; what was asked for and cannot be had ends it before it begins."""

import pytest

from tests.pooler import PoolerError, chosen_pooling, describe
from tests.stacks import check_stack, chosen_stack


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    check_stack(parallel=bool(config.getoption("tx", None)))
    try:
        describe(chosen_pooling())
    except PoolerError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The first line of the output."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(session.config, "workerinput"):
        terminal.write_line(f"TEST_STACK={chosen_stack()}, {describe(chosen_pooling())}")
